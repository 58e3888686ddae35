//! A browser that a test drives: Chromium, through WebDriver (W3C) and, for what that lacks, Chromium's own protocol.
//!
//! The crates that speak WebDriver bring second versions of a dozen others; these are the few requests that the tests need.

use crate::common::http;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The name under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// How long a test waits for something to be on the page. Machines that run tests are busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Browser {
    driver: Child,
    http: reqwest::Client,
    session: String,
}

/// Whether a browser is here. Where one has to be, `BROWSER=required` says so.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn is_here() -> bool {
    let runs = Command::new("chromedriver").arg("--version").stdout(Stdio::null()).status();
    let here = runs.is_ok_and(|status| status.success());
    let required = std::env::var_os("BROWSER").is_some_and(|it| it == "required");
    assert!(here || !required, "there is no chromedriver: make setup-browser");
    if !here {
        eprintln!("skipped: chromedriver is not installed (make setup-browser)");
    }
    here
}

impl Browser {
    /// Starts a browser with a window of this size.
    pub(crate) async fn start(width: u32, height: u32) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = lines.next().expect("it says its port").unwrap();
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim_end_matches('.').parse::<u16>().unwrap();
            }
        };
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let mut args = vec![
            "--headless=new".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--force-color-profile=srgb".to_owned(),
            format!("--window-size={width},{height}"),
        ];
        // Chromium's sandbox does not work for root.
        if rustix::process::getuid().is_root() {
            args.push("--no-sandbox".to_owned());
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let root = format!("http://127.0.0.1:{port}/session");
        let mut browser = Self { driver, http: http(), session: root };
        let started = browser.command("", wanted).await;
        browser.session.push('/');
        browser.session.push_str(started["sessionId"].as_str().expect("a session"));
        browser.size(width, height, false).await;
        browser
    }

    /// What the driver answers to a command, or why it does not.
    async fn answer(&self, path: &str, body: Value) -> Result<Value, String> {
        let post = self.http.post(format!("{}{path}", self.session)).json(&body);
        let answer = post.timeout(Duration::from_secs(120)).send().await.unwrap();
        let mut answer: Value = answer.json().await.unwrap();
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].take()),
        }
    }

    async fn command(&self, path: &str, body: Value) -> Value {
        let answer = self.answer(path, body).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A command of Chromium's own protocol.
    async fn chromium(&self, command: &str, params: Value) -> Value {
        self.command("/goog/cdp/execute", json!({ "cmd": command, "params": params })).await
    }

    /// Opens another tab, to which everything goes from now on. Returns what leads back.
    pub(crate) async fn tab(&self) -> String {
        let get = self.http.get(format!("{}/window", self.session));
        let before: Value = get.send().await.unwrap().json().await.unwrap();
        let new = self.command("/window/new", json!({ "type": "tab" })).await;
        self.switch(new["handle"].as_str().expect("a tab")).await;
        before["value"].as_str().expect("a tab").to_owned()
    }

    /// Goes to a tab.
    pub(crate) async fn switch(&self, tab: &str) {
        self.command("/window", json!({ "handle": tab })).await;
    }

    /// Runs a script in each page before its own.
    pub(crate) async fn before_pages(&self, script: &str) {
        self.chromium("Page.addScriptToEvaluateOnNewDocument", json!({ "source": script })).await;
    }

    pub(crate) async fn goto(&self, url: &str) {
        self.command("/url", json!({ "url": url })).await;
    }

    /// What a script in the page returns.
    pub(crate) async fn script(&self, script: &str) -> Value {
        self.command("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// What a script in the page hands to its callback, which is `done`.
    pub(crate) async fn script_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        self.command("/execute/async", json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression of JavaScript is true in the page.
    pub(crate) async fn until(&self, expression: &str) {
        let begun = Instant::now();
        let script = format!("return Boolean({expression})");
        loop {
            // The page may be loading anew.
            let found = self.answer("/execute/sync", json!({ "script": script, "args": [] })).await;
            if found == Ok(Value::Bool(true)) {
                return;
            }
            if begun.elapsed() > PATIENCE {
                let page = self.script("return document.body.innerText").await;
                panic!("it never came true that {expression}: {found:?}\n{page:#}");
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// The element that a CSS selector finds first.
    async fn find(&self, selector: &str) -> String {
        let asked = json!({ "using": "css selector", "value": selector });
        let found = self.command("/element", asked).await;
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// Clicks as a user does: the element has to be seen, and nothing in front of it.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.command(&format!("/element/{element}/click"), json!({})).await;
    }

    /// Clicks the button with this name in the first element that a selector finds.
    pub(crate) async fn press(&self, within: &str, name: &str) {
        let find = format!(
            "[...document.querySelectorAll('{within} button')].find(it => it.textContent === '{name}')"
        );
        loop {
            self.until(&find).await;
            let button = self.script(&format!("return {find}")).await;
            let Some(button) = button[ELEMENT].as_str() else { continue };
            match self.answer(&format!("/element/{button}/click"), json!({})).await {
                Ok(_) => return,
                // The page has just put another in its place.
                Err(error) if error.contains("stale element") => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }

    /// Types into an element.
    pub(crate) async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.command(&format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn keys(&self, keys: &[char]) {
        let key = |what: &str, key: char| json!({ "type": what, "value": key.to_string() });
        let actions: Vec<_> =
            keys.iter().flat_map(|it| [key("keyDown", *it), key("keyUp", *it)]).collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": actions }] });
        self.command("/actions", actions).await;
    }

    /// What the browser complained about since it was asked last: scripts that failed, and what a policy kept out.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().expect("a list").iter();
        // That a request was answered with a refusal is no complaint: a page that is not signed in asks who it is.
        let complaints = entries.filter(|entry| entry["source"] != "network");
        complaints.map(|it| it["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Shows the page as on a screen of this size.
    pub(crate) async fn size(&self, width: u32, height: u32, mobile: bool) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.chromium("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Prefers a dark or a light page.
    pub(crate) async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.chromium("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Writes a picture of what is seen.
    pub(crate) async fn picture(&self, file: &Path) {
        let shot = self.chromium("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = BASE64_STANDARD.decode(shot["data"].as_str().expect("a picture")).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser goes with its driver, but only if it is asked: a driver that is killed leaves it.
        let session = self.session.clone();
        let end = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let end = http().delete(session).timeout(Duration::from_secs(20));
            runtime.map(|runtime| drop(runtime.block_on(async { end.send().await })))
        });
        drop(end.join());
        drop(self.driver.kill());
        drop(self.driver.wait());
    }
}
