//! The dashboard in a real browser, on a real server with real clients.
//!
//! Skipped where there is no chromedriver, unless `BROWSER=required`. `make dashboard-test` installs one.

#[expect(dead_code, reason = "the other tests of this crate need more of it")]
#[path = "../it/common.rs"]
mod common;
mod driver;
mod pictures;
mod scene;

use common::{Chain, config, http, serve, token, until};
use driver::{Browser, is_here};
use protocol::JobState;
use scene::{Fleet, Way, Wire, fill, hostile};
use server::{
    Config, Running, Server,
    config::Auth,
    tokens::{Role, Tokens},
};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// Leaves a test where there is no browser.
macro_rules! browser {
    () => {{
        if !is_here() {
            return;
        }
        Browser::start(1280, 900).await
    }};
}

fn closed(dir: &std::path::Path) -> Config {
    Config { auth: Auth::Required, ..config(dir) }
}

/// Says what a test has measured, for whoever asks for it (`--no-capture`).
#[expect(clippy::print_stderr, reason = "figures for people")]
fn measured(what: &str, after: Duration) {
    eprintln!("{what} after {after:?}");
}

/// What is written under a heading of the chain.
fn figure(of: &str, name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#{of} div')].find(it => it.querySelector('dt').textContent === '{name}')?.querySelector('dd').textContent"
    )
}

/// Signs in as the owner of a token, with the keyboard.
async fn sign_in(browser: &Browser, server: &Running, token: &str) {
    browser.goto(&server.url()).await;
    browser.until("document.activeElement.id === 'token'").await;
    browser.write("#token", token).await;
    browser.keys(&['\u{e007}']).await;
    browser.until("document.getElementById('link').dataset.state === 'live'").await;
}

/// The jobs in a state.
async fn in_state(server: &Running, state: JobState) -> usize {
    server.status().await.unwrap().jobs.iter().filter(|job| job.state == state).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_follows_the_chain_the_jobs_and_the_clients() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(3);
    let server = serve(config(dir.path()), &chain).await;
    let begun = Instant::now();
    browser.goto(&server.url()).await;
    browser.until("document.getElementById('link').dataset.state === 'live'").await;
    measured("the page is live", begun.elapsed());
    browser.until(&format!("{} === '3'", figure("chain", "head"))).await;
    browser.until("document.body.innerText.includes('3 jobs wait, and no client was heard')").await;

    let fleet =
        Fleet::start(dir.path(), &server, &["alpha", "beta"], Duration::from_millis(300)).await;
    browser.until(&format!("{} === '3'", figure("chain", "proved"))).await;
    browser.until("['alpha', 'beta'].every(name => document.getElementById('clients').textContent.includes(name))").await;
    browser.until("document.getElementById('clients').textContent.includes('exec')").await;
    browser
        .until("document.getElementById('events').textContent.includes('block 3: proved by')")
        .await;
    // All plots have something to show.
    for plot in ["chain", "state", "throughput", "gas", "cost"] {
        browser
            .until(&format!("document.querySelector('#{plot}-plot svg[role=img][aria-label]')"))
            .await;
    }
    // News come by themselves.
    chain.head.store(6, Ordering::SeqCst);
    browser.until(&format!("{} === '6'", figure("chain", "proved"))).await;

    // What an operator does elsewhere is on the page at once. The quickest of a few: this machine may be busy.
    let mut quickest = Duration::MAX;
    for n in 0..5 {
        let (on, name) = if n % 2 == 0 { (true, "Resume intake") } else { (false, "Pause intake") };
        let url = format!("{}/v1/pause", server.url());
        let request = if on { http().post(url) } else { http().delete(url) };
        let begun = Instant::now();
        request.send().await.unwrap().error_for_status().unwrap();
        browser
            .until(&format!("document.getElementById('controls').textContent.includes('{name}')"))
            .await;
        quickest = quickest.min(begun.elapsed());
    }
    measured("news are on the page", quickest);
    assert!(quickest < Duration::from_secs(5), "{quickest:?}");
    assert_eq!(browser.complaints().await, [""; 0]);
    fleet.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_decides_by_buttons_and_is_asked_before() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (_, operator) = token(&config, Role::Operator).await;
    let (_, client) = token(&config, Role::Client).await;
    let server = serve(config, &Chain::new(3)).await;
    until("the jobs are ready", async || in_state(&server, JobState::Ready).await == 3).await;
    scene::visit(&server, 7, "gamma", Some(&client)).await;
    sign_in(&browser, &server, &operator).await;
    // Scripts of this page can read one half of what keeps the user signed in, and none the other; the token is nowhere.
    let seen = browser.script("return [document.cookie, Object.keys(localStorage).join(), JSON.stringify(sessionStorage), document.getElementById('token').value, JSON.stringify(localStorage)]").await;
    assert_eq!(seen.as_array().unwrap()[..4], ["", "l2p.session", "{}", ""]);
    assert!(!seen[4].as_str().unwrap().contains(&operator[22..]));

    // Saying no changes nothing; Escape says no.
    browser.press("#controls", "Drain all").await;
    browser.until("document.getElementById('confirm').open").await;
    assert_eq!(browser.script("return document.activeElement.textContent").await, "Cancel");
    browser.keys(&['\u{e00c}']).await;
    browser.until("!document.getElementById('confirm').open").await;
    assert!(server.status().await.unwrap().draining_since.is_none());
    browser.press("#controls", "Drain all").await;
    browser.click("#confirm-yes").await;
    browser
        .until("document.getElementById('controls').textContent.includes('Grant leases again')")
        .await;
    assert!(server.status().await.unwrap().draining_since.is_some());
    browser.press("#controls", "Grant leases again").await;
    browser.click("#confirm-yes").await;
    browser.until("document.getElementById('controls').textContent.includes('Drain all')").await;
    browser.press("#controls", "Pause intake").await;
    browser.click("#confirm-yes").await;
    browser
        .until("document.getElementById('notices').textContent.includes('paused the intake')")
        .await;

    // A job: its priority, given up, and back again.
    browser.click("#jobs tbody tr:last-child button").await;
    browser
        .until(
            "document.getElementById('job').open && document.querySelector('#attempts tbody tr')",
        )
        .await;
    browser.press("#job-actions", "Priority").await;
    browser.until("document.activeElement.id === 'confirm-number'").await;
    browser.write("#confirm-number", "\u{e009}a\u{e000}7\u{e007}").await;
    until("it has a priority", async || {
        server.status().await.unwrap().jobs.iter().any(|job| job.priority == 7)
    })
    .await;
    browser.press("#job-actions", "Cancel").await;
    browser.click("#confirm-yes").await;
    until("it is given up", async || in_state(&server, JobState::Dead).await == 1).await;
    browser.until("document.getElementById('job-title').textContent.includes('given up')").await;
    browser.until("document.getElementById('job-replay').textContent.includes('l2-prover failures export')").await;
    browser.press("#job-actions", "Requeue").await;
    browser.click("#confirm-yes").await;
    until("it is ready again", async || in_state(&server, JobState::Ready).await == 3).await;
    browser.keys(&['\u{e00c}']).await;
    browser.until("!document.getElementById('job').open").await;
    // Whoever works with the keyboard is where they were.
    browser.until("document.activeElement.textContent === 'Details'").await;

    // A client: quarantined, and released.
    browser.press("#clients", "Quarantine").await;
    browser.click("#confirm-yes").await;
    until("it is in quarantine", async || server.status().await.unwrap().clients[0].quarantined)
        .await;
    browser.until("document.querySelector('#clients .badge').textContent === 'quarantined'").await;
    browser.press("#clients", "Release").await;
    browser.click("#confirm-yes").await;
    until("it is released", async || !server.status().await.unwrap().clients[0].quarantined).await;
    // What was decided is among the events, with who did.
    browser.until("document.getElementById('events').textContent.includes('(operator): quarantine client')").await;

    browser.click("#sign-out").await;
    browser
        .until(
            "!document.getElementById('sign-in').hidden && document.getElementById('main').hidden",
        )
        .await;
    assert_eq!(browser.complaints().await, [""; 0]);
    browser.goto(&server.url()).await;
    browser.until("!document.getElementById('sign-in').hidden").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_sees_no_buttons_and_a_client_nothing() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (viewer_id, viewer) = token(&config, Role::Viewer).await;
    let (_, client) = token(&config, Role::Client).await;
    let server = serve(config.clone(), &Chain::new(3)).await;
    scene::visit(&server, 7, "gamma", Some(&client)).await;
    browser.goto(&server.url()).await;
    browser.until("document.activeElement.id === 'token'").await;
    for (shown, said) in [
        ("l2p_0000000000000000_nonsense", "does not know this token"),
        ("not a token \u{2603}", "That is no token"),
        (client.as_str(), "a token of role client may not do this"),
    ] {
        browser.write("#token", shown).await;
        browser.keys(&['\u{e007}']).await;
        browser
            .until(&format!(
                "document.getElementById('sign-in-problem').textContent.includes('{said}')"
            ))
            .await;
    }
    browser.write("#token", &viewer).await;
    browser.keys(&['\u{e007}']).await;
    browser.until("document.getElementById('clients').textContent.includes('gamma')").await;
    browser.until("document.getElementById('who').textContent === 'viewer, viewer'").await;
    browser.click("#jobs tbody tr:last-child button").await;
    browser.until("document.querySelector('#attempts tbody tr')").await;
    let buttons = browser.script("return [...document.querySelectorAll('#controls button, #clients button, #bulk button, #job-actions button')].map(it => it.textContent)").await;
    assert_eq!(buttons, serde_json::json!([]));
    // Not the page decides who may do something: the same request is refused, with all that the page has.
    let refused = browser
        .script_async(
            "fetch('/v1/drain', { method: 'POST', headers: { 'x-csrf-token': localStorage.getItem('l2p.session') } }).then(it => it.json().then(text => done([it.status, text.message])))",
        )
        .await;
    assert_eq!(refused, serde_json::json!([403, "a token of role viewer may not do this"]));
    assert!(server.status().await.unwrap().draining_since.is_none());
    // The page goes when the token ends.
    let tokens = Tokens::open(&config.data_dir, None).await.unwrap();
    tokens.revoke(viewer_id).await.unwrap();
    tokens.close().await;
    browser
        .until(
            "!document.getElementById('sign-in').hidden && !document.querySelector('dialog[open]')",
        )
        .await;
    assert_eq!(browser.script("return document.getElementById('main').hidden").await, true);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_and_no_error_text_becomes_markup() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(3)).await;
    until("the jobs are ready", async || in_state(&server, JobState::Ready).await == 3).await;
    let (name, error) = hostile(&server).await;
    assert!(!error.contains(['\u{202e}', '\u{1b}', '\0']), "terminals show it too: {error:?}");
    browser.goto(&server.url()).await;
    let shown = |of: &str, text: &str| {
        format!("document.getElementById('{of}').textContent.includes({})", serde_json::json!(text))
    };
    browser.until(&shown("clients", &name)).await;
    browser.until(&shown("failures", &error)).await;
    browser.until(&shown("events", "tried, and failed")).await;
    browser.click("#failures button").await;
    browser.until(&shown("job-facts", &error)).await;
    browser.until(&shown("attempts", &name)).await;
    // It stands there as it was sent, and is neither an element nor a script that ran.
    let found = browser.script("return [document.title, typeof window.owned, document.querySelectorAll('img, iframe, main script, dialog script, main a, [onerror], [onload]').length]").await;
    assert_eq!(found, serde_json::json!(["Prover Server", "undefined", 0]));
    // And had it become markup, it would not run: the page's policy keeps out what is inline or from elsewhere.
    let kept_out = browser
        .script(
            "let refused = 0;
             try { document.body.innerHTML = '<img src=x onerror=owned=1>'; } catch { refused += 1; }
             const inline = document.createElement('script');
             try { inline.text = 'window.owned = 1'; document.body.append(inline); } catch { refused += 1; }
             return [refused, typeof window.owned];",
        )
        .await;
    assert_eq!(kept_out, serde_json::json!([2, "undefined"]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_page_on_this_machine_can_neither_use_nor_frame_nor_read_it() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (_, operator) = token(&config, Role::Operator).await;
    let server = serve(config, &Chain::new(1)).await;
    sign_in(&browser, &server, &operator).await;
    // The same host, so the cookie goes along; but another port.
    let (evil, heads) =
        scene::page("<!doctype html><title>evil</title><form method=post id=form></form>").await;
    browser.goto(&evil).await;
    let url = server.url();
    // It gets the cookie, which is of no use to it, from wherever it sends it.
    let cookie = heads.lock().unwrap().lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("cookie").then(|| value.to_owned())
    });
    let cookie = cookie.expect("browsers send it to all ports");
    assert!(cookie.contains("l2p_"), "{cookie}");
    for (method, path) in [
        (reqwest::Method::GET, "/v1/session"),
        (reqwest::Method::POST, "/v1/session"),
        (reqwest::Method::GET, "/v1/status"),
        (reqwest::Method::POST, "/v1/pause"),
        (reqwest::Method::DELETE, "/v1/session"),
    ] {
        let request = http().request(method.clone(), format!("{url}{path}"));
        let answer = request.header("cookie", &cookie).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{method} {path}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains("csrf\""), "{method} {path}: {text}");
    }
    assert!(server.status().await.unwrap().paused_since.is_none());
    let tried = browser
        .script_async(&format!(
            "const tries = [
                fetch('{url}/v1/drain', {{ method: 'POST', mode: 'no-cors', credentials: 'include' }}),
                fetch('{url}/v1/drain', {{ method: 'POST', credentials: 'include', headers: {{ 'x-csrf-token': 'x' }} }}),
                fetch('{url}/v1/session', {{ credentials: 'include' }}).then(it => it.text()),
                fetch('{url}/v1/status', {{ credentials: 'include' }}).then(it => it.text()),
                new Promise((resolve, reject) => {{ const it = new EventSource('{url}/v1/events', {{ withCredentials: true }}); it.onmessage = resolve; it.onerror = reject; }}),
             ];
             Promise.allSettled(tries).then(all => done(all.map(it => it.status)));"
        ))
        .await;
    // Some were sent, and refused; of none was an answer read.
    assert_eq!(tried, serde_json::json!(vec!["rejected"; 5]));
    let framed = browser
        .script_async(&format!(
            "const frame = document.createElement('iframe'); frame.src = '{url}/';
             frame.onload = () => {{ let text = 'kept out'; try {{ text = frame.contentDocument ? 'read' : 'kept out'; }} catch {{ }} done(text); }};
             document.body.append(frame);"
        ))
        .await;
    assert_eq!(framed, "kept out");
    let complaints = browser.complaints().await.join("\n");
    assert!(complaints.contains("frame-ancestors"), "{complaints}");
    // A form goes to the server with the cookie, and is refused.
    browser.script(&format!("const form = document.getElementById('form'); form.action = '{url}/v1/drain'; form.submit();")).await;
    browser
        .until("document.body.innerText.includes('another origin may not use this server')")
        .await;
    assert!(server.status().await.unwrap().draining_since.is_none());
    // Its own page still works.
    browser.goto(&url).await;
    browser.until("document.getElementById('link').dataset.state === 'live'").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_jobs_are_a_page_like_any_other() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(config(dir.path()), None::<Chain>).await.unwrap();
    let (store, _) = server.beside();
    fill(&store, 10_000).await;
    let begun = Instant::now();
    browser.goto(&server.url()).await;
    browser.until("document.getElementById('state-plot').textContent.includes('9,500')").await;
    measured("10,000 jobs are shown", begun.elapsed());
    let rows = "document.querySelectorAll('#jobs tbody tr').length";
    browser.until(&format!("{rows} === 100")).await;
    // Pages of those that were given up, down to the last.
    browser.script("const state = document.getElementById('state'); state.value = 'dead'; state.dispatchEvent(new Event('change'))").await;
    browser.until(&format!("{rows} === 50")).await;
    for shown in (100..=500).step_by(50) {
        browser.click("#older").await;
        browser.until(&format!("{rows} === {shown}")).await;
    }
    // One by its block.
    browser.script("const state = document.getElementById('state'); state.value = ''; state.dispatchEvent(new Event('change'))").await;
    browser.write("#block", "4321\u{e007}").await;
    browser
        .until(&format!(
            "{rows} === 1 && document.querySelector('#jobs tbody td').textContent === '4,321'"
        ))
        .await;
    let nodes = browser.script("return document.querySelectorAll('*').length").await;
    assert!(nodes.as_u64().unwrap() < 10_000, "{nodes} elements");
    assert_eq!(browser.complaints().await, [""; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_page_finds_a_server_that_starts_again() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (_, viewer) = token(&config, Role::Viewer).await;
    let chain = Chain::new(2);
    let server = serve(config.clone(), &chain).await;
    let port = server.addr().port();
    sign_in(&browser, &server, &viewer).await;
    browser.script("window.same = true").await;
    server.stop().await;
    browser.until("document.getElementById('link').dataset.state === 'lost'").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    chain.head.store(5, Ordering::SeqCst);
    let server = serve(Config { listen_port: port, ..config }, &chain).await;
    browser.until("document.getElementById('link').dataset.state === 'live'").await;
    browser.until(&format!("{} === '5'", figure("chain", "head"))).await;
    // It is the same page, and nobody had to sign in again.
    assert_eq!(browser.script("return window.same").await, true);
    assert_eq!(browser.script("return document.getElementById('sign-in').hidden").await, true);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_used_on_a_phone_in_the_dark_and_without_a_mouse() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(4);
    let server = serve(config(dir.path()), &chain).await;
    let fleet = Fleet::start(dir.path(), &server, &["alpha"], Duration::from_millis(100)).await;
    browser.goto(&server.url()).await;
    browser.until(&format!("{} === '4'", figure("chain", "proved"))).await;
    // Everything that can be used has a name; everything that is shown as a picture too.
    let nameless = browser
        .script(
            "const named = it => (it.getAttribute('aria-label') || it.textContent || (it.labels && it.labels[0] && it.labels[0].textContent) || '').trim() !== '';
             return [...document.querySelectorAll('button, input, select, progress, svg')].filter(it => it.checkVisibility() && !named(it)).map(it => it.outerHTML.slice(0, 200))",
        )
        .await;
    assert_eq!(nameless, serde_json::json!([]));
    for (scheme, darker) in [("light", false), ("dark", true)] {
        browser.prefer(scheme).await;
        let dark = browser
            .script("const of = name => getComputedStyle(document.body)[name].match(/[0-9]+/g).slice(0, 3).reduce((sum, it) => sum + Number(it), 0); return of('backgroundColor') < of('color')")
            .await;
        assert_eq!(dark, darker, "{scheme}");
        // Small text has the contrast that WCAG AA asks for.
        let poor = browser.script(scene::CONTRAST).await;
        assert_eq!(poor, serde_json::json!([]), "{scheme}");
    }
    // The first stop of the keyboard skips what is above; then a job is opened and closed.
    browser.script("document.activeElement.blur()").await;
    browser.keys(&['\u{e004}']).await;
    assert_eq!(browser.script("return document.activeElement.className").await, "skip");
    browser.keys(&['\u{e007}']).await;
    browser.until("document.activeElement.id === 'main'").await;
    browser.script("document.querySelector('#jobs tbody button').focus()").await;
    browser.keys(&['\u{e007}']).await;
    browser
        .until("document.getElementById('job').open && document.activeElement.id === 'job-title'")
        .await;
    browser.until("document.querySelector('#job-plot svg')").await;
    browser.keys(&['\u{e00c}']).await;
    browser.until("!document.getElementById('job').open").await;

    browser.size(390, 844, true).await;
    browser.goto(&server.url()).await;
    browser.until(&format!("{} === '4'", figure("chain", "proved"))).await;
    browser.until("document.documentElement.scrollWidth <= 390").await;
    browser.click("#jobs tbody button").await;
    browser.until("document.getElementById('job').open").await;
    assert_eq!(
        browser
            .script("return document.getElementById('job').getBoundingClientRect().width <= 390")
            .await,
        true
    );
    assert_eq!(browser.complaints().await, [""; 0]);
    fleet.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_named_by_more_than_what_it_calls_itself() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(1)).await;
    until("the job is ready", async || in_state(&server, JobState::Ready).await == 1).await;
    let id = |n: u8| format!("{n:02x}").repeat(16);
    let first = scene::visit(&server, 1, "prover-1", None).await.expect("there is a job");
    let marks = format!("Z{}", "\u{301}".repeat(63));
    for (n, name) in [
        (2, "prover-1"),
        (3, "prover-1\u{200d}\u{e0041}"),
        (4, "\u{200b}\u{3164}\u{2060}\u{feff}"),
        (5, marks.as_str()),
        (6, "W".repeat(64).as_str()),
    ] {
        assert!(scene::visit(&server, n, name, None).await.is_none());
    }
    browser.goto(&server.url()).await;
    browser.until("document.querySelectorAll('#clients li').length === 6").await;
    let cards = browser
        .script("return [...document.querySelectorAll('#clients h3')].map(it => it.querySelector('.name').textContent + ' ' + it.querySelector('.id').textContent)")
        .await;
    let cards: Vec<_> = cards.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    for wanted in ["prover-1 01010101", "prover-1 02020202", "prover-1 03030303", " 04040404"] {
        assert!(cards.contains(&wanted), "{wanted}: {cards:?}");
    }
    // What is drawn beyond a card's own lines is cut, and no name takes the room of a button.
    let drawn = browser
        .script("return [...document.querySelectorAll('#clients h3, #clients li > p')].every(it => getComputedStyle(it).contain.includes('paint'))")
        .await;
    assert_eq!(drawn, true);
    let lines = browser
        .script("return [...document.querySelectorAll('#jobs tbody button')].every(it => it.getBoundingClientRect().height < 50)")
        .await;
    assert_eq!(lines, true);

    // Who is asked about taking a job back is told from whom, and takes it from no other.
    browser.click("#jobs tbody button").await;
    browser.until("document.querySelector('#attempts tbody tr')").await;
    browser.press("#job-actions", "Take back").await;
    let asked = browser.script("return document.getElementById('confirm').textContent").await;
    let asked = asked.as_str().unwrap();
    assert!(asked.contains("prover-1\u{2069} (01010101)?") && asked.contains(&id(1)), "{asked}");
    let url = format!("{}{}", server.url(), protocol::paths::release(&first.job));
    http().post(url).send().await.unwrap().error_for_status().unwrap();
    until("another has it", async || scene::visit(&server, 2, "prover-1", None).await.is_some())
        .await;
    browser.click("#confirm-yes").await;
    browser
        .until(
            "document.getElementById('toasts').textContent.includes('another client has it now')",
        )
        .await;
    let job = server.status().await.unwrap().jobs[0].clone();
    assert_eq!(job.client.map(|it| it.to_string()), Some(id(2)));
    browser.until("document.getElementById('job-facts').textContent.includes('02020202')").await;
    browser.press("#job-actions", "Take back").await;
    browser.click("#confirm-yes").await;
    until("it is taken back", async || in_state(&server, JobState::Ready).await == 1).await;
    browser.until("document.getElementById('toasts').textContent.includes('taken back from \u{2068}prover-1\u{2069} (02020202)')").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_filtered_shows_what_is_true_now() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::new(3);
    let server = serve(Config { ready_jobs: 1_000, ..config(dir.path()) }, &chain).await;
    until("the jobs are ready", async || in_state(&server, JobState::Ready).await == 3).await;
    browser.goto(&server.url()).await;
    let rows = "document.querySelectorAll('#jobs tbody tr').length";
    browser.until(&format!("{rows} === 3")).await;
    let filter = "const state = document.getElementById('state'); state.value = 'ready'; state.dispatchEvent(new Event('change'))";
    browser.script(filter).await;
    browser.until("document.getElementById('as-of').textContent.startsWith('as of ')").await;
    browser.until(&format!("{rows} === 3")).await;
    // One that is leased is no longer among them, and one that comes is.
    scene::visit(&server, 7, "gamma", None).await.expect("there is a job");
    browser.until(&format!("{rows} === 2")).await;
    chain.head.store(4, Ordering::SeqCst);
    browser.until(&format!("{rows} === 3")).await;
    browser.script(&filter.replace("'ready'", "''")).await;
    browser
        .until(&format!("{rows} === 4 && document.getElementById('as-of').textContent === ''"))
        .await;
    assert_eq!(browser.complaints().await, [""; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_slow_or_broken_network_the_page_says_what_it_does_not_know() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let server = serve(config(dir.path()), &Chain::new(3)).await;
    until("the jobs are ready", async || in_state(&server, JobState::Ready).await == 3).await;
    let wire = Wire::to(&server).await;
    browser.goto(&wire.url).await;
    browser.until("document.querySelectorAll('#jobs tbody tr').length === 3").await;

    // One job is opened while another is still being read.
    wire.is(Way::Takes(Duration::from_millis(700)));
    browser.click("#jobs tbody tr:first-child button").await;
    browser.click("#job-close").await;
    browser.click("#jobs tbody tr:last-child button").await;
    browser.until("document.getElementById('job-title').textContent.startsWith('Block 1:') && document.querySelector('#attempts tbody tr')").await;
    browser.click("#job-close").await;
    browser.until("!document.getElementById('job').open").await;

    // The server did it; that it did was lost.
    browser.press("#controls", "Pause intake").await;
    wire.is(Way::Cuts);
    browser.click("#confirm-yes").await;
    browser
        .until("document.getElementById('toasts').textContent.includes('It may or may not have been done')")
        .await;
    assert!(server.status().await.unwrap().paused_since.is_some());
    wire.is(Way::Takes(Duration::ZERO));
    browser.until("document.getElementById('link').dataset.state === 'live'").await;
    browser.until("document.getElementById('controls').textContent.includes('Resume')").await;

    // Nothing comes any more, and nothing says so.
    let begun = Instant::now();
    wire.is(Way::Stalls);
    browser.until("document.getElementById('link').dataset.state === 'lost'").await;
    measured("the page doubts", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(browser.complaints().await, [""; 0]);
    drop(browser);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_signs_out_does_so_in_every_tab_and_leaves_nothing() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let config = closed(dir.path());
    let (_, operator) = token(&config, Role::Operator).await;
    let (_, viewer) = token(&config, Role::Viewer).await;
    let server = serve(config, &Chain::new(2)).await;
    until("the jobs are ready", async || in_state(&server, JobState::Ready).await == 2).await;
    sign_in(&browser, &server, &operator).await;
    browser.script("const state = document.getElementById('state'); state.value = 'ready'; state.dispatchEvent(new Event('change'))").await;
    browser.until("document.getElementById('as-of').textContent !== ''").await;
    browser.click("#jobs tbody button").await;
    browser.until("document.querySelector('#attempts tbody tr')").await;

    // Another tab is signed in too, since it is the same browser.
    let first = browser.tab().await;
    browser.goto(&server.url()).await;
    browser.until("document.getElementById('link').dataset.state === 'live'").await;
    browser.click("#sign-out").await;
    browser
        .until("document.getElementById('sign-in-problem').textContent === 'You have signed out.'")
        .await;
    browser.switch(&first).await;
    browser.until("!document.getElementById('sign-in').hidden").await;
    let left = browser
        .script("return [JSON.stringify(localStorage), document.getElementById('main').hidden, document.querySelector('dialog[open]'), document.getElementById('job-title').textContent, document.querySelectorAll('#controls button, #job-actions button, tbody tr, #clients li').length]")
        .await;
    assert_eq!(left, serde_json::json!(["{}", true, null, "", 0]));
    // Who comes next begins anew.
    browser.until("document.activeElement.id === 'token'").await;
    browser.write("#token", &viewer).await;
    browser.keys(&['\u{e007}']).await;
    browser.until("document.querySelectorAll('#jobs tbody tr').length === 2").await;
    let filter = browser
        .script("return document.getElementById('state').value + document.getElementById('as-of').textContent")
        .await;
    assert_eq!(filter, "");
    assert_eq!(browser.complaints().await, [""; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_says_why_it_gets_no_stream_and_one_that_nobody_sees_takes_none() {
    let browser = browser!();
    let dir = tempfile::tempdir().unwrap();
    let limits = server::config::Limits { streams_per_caller: 1, ..Default::default() };
    let server = serve(Config { limits, ..config(dir.path()) }, &Chain::new(1)).await;
    let other = http().get(format!("{}/v1/events", server.url())).send().await.unwrap();
    browser.goto(&server.url()).await;
    browser.until("document.getElementById('link').textContent.includes('1 dashboards are open already (streams_per_caller)')").await;
    drop(other);
    browser.until("document.getElementById('link').dataset.state === 'live'").await;
    // From the start in a tab behind another.
    browser
        .before_pages("Object.defineProperty(document, 'hidden', { get: () => !window.seen })")
        .await;
    browser.goto(&server.url()).await;
    browser.until("document.getElementById('link').textContent === 'resting while hidden'").await;
    until("there is a stream to be had", async || {
        let free = http().get(format!("{}/v1/events", server.url())).send().await.unwrap();
        free.status().is_success()
    })
    .await;
    browser
        .script("window.seen = true; document.dispatchEvent(new Event('visibilitychange'))")
        .await;
    browser.until("document.getElementById('link').dataset.state === 'live'").await;
    assert_eq!(browser.complaints().await, [""; 0]);
    server.stop().await;
}
