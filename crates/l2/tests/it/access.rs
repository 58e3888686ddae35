//! Tokens and settings of a server, as commands.

use std::fs;

use serde_json::Value;

use crate::common::{Service, fails, l2_prover, run};

/// Runs the command, which must succeed; returns its stdout.
fn text(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("it is UTF-8")
}

fn json(arguments: &[&str]) -> Value {
    let text = text(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).expect("one document of JSON")
}

#[test]
fn tokens_made_before_the_server_runs_open_it_to_their_owners() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let data = path("server");
    let create = |role: &str| {
        let create = ["tokens", "create", "--name", "a name", "--role", role, "--data-dir", &data];
        let made = json(&create);
        fs::write(path(role), made["token"].as_str().expect("it is shown")).expect("written");
        made
    };
    let operator = create("operator");
    create("client");
    let shown = text(&["tokens", "create", "--name", "x", "--role", "viewer", "--data-dir", &data]);
    assert!(shown.starts_with("l2p_") && shown.trim_end().lines().count() == 1, "{shown}");
    let error = fails(1, &["tokens", "list", "--data-dir", &path("elsewhere")]);
    assert!(error.contains("elsewhere holds no tokens"), "{error}");
    assert!(!folder.path().join("elsewhere").exists(), "looking makes no folder");

    let config = path("server.toml");
    let settings =
        "auth = 'required'\nprover = 'exec'\ndanger_accept_exec = true\nlisten_port = 0\n";
    fs::write(&config, format!("data_dir = '{data}'\n{settings}")).expect("written");
    let listed = json(&["tokens", "list", "--config", &config]);
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    let (_node, started) = Service::start(&["node", "--node-port", "0", "--block-time", "200ms"]);
    let node = started["node"].as_str().expect("it names the node").to_owned();
    let server = ["server", "--config", &config, "--rpc-url", &node];
    let (mut server, started) = Service::start(&server);
    let url = started["server"].as_str().expect("it names itself").to_owned();

    let list = ["jobs", "list", "--server", &url];
    let error = fails(1, &list);
    assert!(error.contains("wants a valid token"), "{error}");
    let error = fails(1, &[&list[..], &["--token-file", &path("client")]].concat());
    assert!(error.contains("a token of role client may not do this"), "{error}");
    let error = fails(1, &[&list[..], &["--token-file", &path("nowhere")]].concat());
    assert!(error.contains("nowhere has no token"), "{error}");
    let operators = path("operator");
    let proved = [&list[..], &["--state", "proved", "--token-file", &operators]].concat();
    assert_eq!(json(&proved), Value::Array(Vec::new()));
    let by_variable = l2_prover(&list)
        .env("L2_PROVER_TOKEN", fs::read_to_string(path("operator")).expect("written"))
        .output()
        .expect("started");
    assert!(by_variable.status.success(), "{}", String::from_utf8_lossy(&by_variable.stderr));

    let client = ["client", "--prover", "exec", "--server", &url, "--data-dir", &path("c")];
    let (mut client, _) =
        Service::start(&[&client[..], &["--token-file", &path("client")]].concat());
    while json(&proved).as_array().is_none_or(Vec::is_empty) {}

    // All while the server runs.
    let id = operator["id"].as_str().expect("it has an id");
    let rotated = json(&["tokens", "rotate", id, "--grace", "0s", "--data-dir", &data]);
    assert_eq!((&rotated["name"], &rotated["role"]), (&"a name".into(), &"operator".into()));
    json(&["tokens", "revoke", rotated["id"].as_str().expect("an id"), "--data-dir", &data]);
    let listed = json(&["tokens", "list", "--data-dir", &data]);
    let states: Vec<_> = listed.as_array().expect("a list").iter().map(|t| &t["state"]).collect();
    assert_eq!(states, ["expired", "valid", "valid", "revoked"]);
    assert!(!listed.to_string().contains("l2p_"), "{listed}");
    while run(&proved).status.success() {}
    let error = fails(1, &["tokens", "revoke", "0000000000000000", "--data-dir", &data]);
    assert!(error.contains("there is no token 0000000000000000"), "{error}");
    assert_eq!((client.terminate(), server.terminate()), (Some(0), Some(0)));
    let checked = json(&["fsck", "--data-dir", &data]);
    assert_eq!(checked["findings"], Value::Array(Vec::new()));
}

#[test]
fn a_settings_file_is_checked_whole_and_shown_without_secrets() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("server.toml");
    let config = file.display().to_string();
    let write = |text: &str| fs::write(&file, text).expect("written");
    let check = ["config", "check", "--config", &config];

    write(
        "listen_prot = 1\nbatch_blocks = 'many'\nlease = '1 fortnight'\nsecret_sauce = 1\nrpc_batch = 0\n\
         follow = 'newest'\nws_url = 12345\nrpc_url = [6789]\nfirst_block = 2\nstart_block = 3\n\
         settle_rolup = '0x1'\nsettle_rollup = 'nowhere'\nl1_rpc_url = 2468\nsettle_lease = 'long'\n[limits]\nupload = 3\nidle_time = 5\n",
    );
    let error = fails(1, &check);
    for part in [
        "listen_prot: there is no such key; did you mean listen_port?",
        "limits.upload: there is no such key; did you mean limits.uploads?",
        "batch_blocks: invalid type",
        "lease: ",
        "limits.idle_time: invalid type",
        "secret_sauce: there is no such key; `l2-prover config check",
        "rpc_batch: 0 is not in 1..=1000",
        "follow: `newest` is no depth",
        "ws_url: must be a text",
        "rpc_url: must be a text, or a list of texts",
        "start_block: that is the old name of first_block, which is set too",
        "settle_rolup: there is no such key; did you mean settle_rollup?",
        "settle_rollup: odd number of digits",
        "l1_rpc_url: must be a text, or a list of texts",
        "settle_lease: ",
        "server.toml cannot be used",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(
        !error.contains("12345") && !error.contains("6789") && !error.contains("2468"),
        "{error}"
    );
    write("lease = \n");
    let error = fails(1, &check);
    assert!(error.contains("server.toml is no TOML: line 1"), "{error}");
    write("rpc_url = 'http://x'\nlisten_ip = '0.0.0.0'\n");
    let error = fails(1, &check);
    assert!(error.contains("setting listen_ip is 0.0.0.0") && error.contains("auth"), "{error}");
    write(
        "auth = 'required'\ntls_cert = 'nowhere.pem'\ntls_key = 'nowhere.key'\nrpc_url = 'http://x'\n",
    );
    let error = fails(1, &check);
    assert!(error.contains("setting tls_cert is nowhere.pem"), "{error}");
    write("batch_blocks = 2\n");
    let error = fails(1, &check);
    assert!(error.contains("rpc_url is missing"), "{error}");

    write(
        "rpc_url = 'https://user:hunter2@node.example/key-hunter2'\n\
         database = 'postgres://prover:hunter2@db.example/jobs'\n\
         lease = '20s'\nlisten_port = 1\nbatch_blocks = 2\nstart_block = 9\nfollow = 12\n\
         ws_url = 'wss://node.example/key-hunter2'\nwitness_from = 'proofs'\nrpc_per_second = 50\n\
         settle_rollup = '0x00000000000000000000000000000000000000aa'\n\
         l1_rpc_url = ['https://l1.example/hunter2', 'https://other.example']\n\
         settle_signer_url = 'https://user:hunter2@signer.example'\nsettle_signer_address = '0x00000000000000000000000000000000000000bb'\n\
         settle_bump_after = '3m'\nsettle_proof_kind = 'aggregate'\nsettle_max_gas = 300000\n[limits]\nuploads = 3\n",
    );
    let output = l2_prover(
        &[&check[..], &["--batch-blocks", "4", "--settle-max-gas", "400000", "--json"]].concat(),
    )
    .env("PROVER_SERVER_LISTEN_PORT", "2")
    .output()
    .expect("started");
    let shown = String::from_utf8(output.stdout).expect("it is UTF-8");
    assert!(!shown.contains("hunter2"), "{shown}");
    let checked: Value = serde_json::from_str(&shown).expect("one document of JSON");
    for (key, value, origin) in [
        ("batch_blocks", Value::from(4), "flag"),
        ("listen_port", 2.into(), "environment"),
        ("lease", "20s".into(), "file"),
        ("heartbeat", "5s".into(), "default"),
        ("first_block", 9.into(), "file"),
        ("follow", "12".into(), "file"),
        ("witness_from", "proofs".into(), "file"),
        ("rpc_per_second", 50.into(), "file"),
        ("rpc_batch", 64.into(), "default"),
        ("rpc_max_answer_bytes", (256 << 20).into(), "default"),
        ("ws_url", "wss://node.example/…".into(), "file"),
        ("database", "jobs at db.example:5432".into(), "file"),
        ("rpc_url", serde_json::json!(["https://node.example/…"]), "file"),
        ("verify_threads", 1.into(), "default"),
        ("settle_rollup", "0x00000000000000000000000000000000000000aa".into(), "file"),
        (
            "l1_rpc_url",
            serde_json::json!(["https://l1.example/…", "https://other.example"]),
            "file",
        ),
        ("settle_signer_url", "https://signer.example/…".into(), "file"),
        ("settle_bump_after", "3m".into(), "file"),
        ("settle_proof_kind", "aggregate".into(), "file"),
        ("settle_max_gas", 400_000.into(), "flag"),
        ("settle_max_fee_gwei", 100.into(), "default"),
    ] {
        assert_eq!(
            (&checked["config"][key], &checked["origins"][key]),
            (&value, &origin.into()),
            "{key}"
        );
    }
    assert_eq!(checked["config"]["limits"]["uploads"], 3);
    assert_eq!(checked["origins"]["limits.uploads"], "file");
    assert_eq!(checked["origins"]["limits.headers"], "default");

    write("rpc_url = 'http://x'\nchain = 'nowhere.json'\n");
    let error = fails(1, &check);
    assert!(error.contains("setting chain cannot be used") && error.contains("nowhere"), "{error}");
    write("rpc_url = 'http://x'\nchain = 'node'\n");
    text(&check);
    write(
        "rpc_url = 'https://user:hunter2@node.example/key-hunter2'\n\
         database = 'postgres://prover:hunter2@db.example/jobs'\nlease = '20s'\n",
    );

    // As text it is a file that can be used again: what is not shown in full is a comment.
    let shown = text(&check);
    assert!(!shown.contains("hunter2") && shown.contains("[limits]\n"), "{shown}");
    assert!(shown.contains("# database is set (file)"), "{shown}");
    write(&format!("rpc_url = 'http://x'\n{shown}"));
    let again = text(&check);
    assert!(again.contains("lease = \"20s\""), "{again}");
}

/// Whatever says where to settle, and by whom: it is checked before a server starts, and `l2-prover settle` reads the same file.
#[test]
fn settling_can_be_set_up_in_the_settings_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, data) = (folder.path().join("server.toml"), folder.path().join("data"));
    let (config, data) = (file.display().to_string(), data.display().to_string());
    let rollup = "settle_rollup = '0x00000000000000000000000000000000000000aa'\n";
    let l1 = "l1_rpc_url = 'http://127.0.0.1:9'\n";
    let signer = "settle_signer_url = 'http://127.0.0.1:9'\n";
    let address = "settle_signer_address = '0x00000000000000000000000000000000000000bb'\n";
    let whole = [rollup, l1, signer, address].concat();
    for (lines, says) in [
        (rollup.to_owned(), "setting l1_rpc_url is missing: settle_rollup needs it"),
        (
            signer.to_owned() + address,
            "setting settle_rollup is missing: settle_signer_url needs it",
        ),
        ("settle_password_file = 'x'\n".to_owned(), "setting settle_keystore is missing"),
        (whole.replace("aa'", "00'"), "setting settle_rollup is the zero address"),
        (format!("{whole}l1_chain_id = 0\n"), "setting l1_chain_id is zero"),
        (
            whole.replace("http://127.0.0.1:9'\nsettle_signer", "wss://l1/KEYKEY'\nsettle_signer"),
            "setting l1_rpc_url cannot be used: ",
        ),
        (
            whole.replace(signer, "settle_signer_url = 'hp:/KEYKEY'\n"),
            "setting settle_signer_url cannot be used: ",
        ),
        (
            format!(
                "{rollup}{l1}settle_keystore = 'nowhere.json'\nsettle_password_file = 'nowhere'\n"
            ),
            "setting settle_keystore is nowhere.json, which cannot be read",
        ),
        ([rollup, l1].concat(), "setting settle_keystore is missing: a wallet is needed"),
        ([rollup, l1, signer].concat(), "setting settle_signer_address is missing"),
        ("settle_keystore = 'key'\n".to_owned(), "setting settle_password_file is missing"),
        (
            format!("{whole}settle_keystore = 'key'\nsettle_password_file = 'password'\n"),
            "setting settle_signer_url is set, and settle_keystore is too",
        ),
        (
            format!("{whole}settle_max_fee_gwei = 0\n"),
            "setting settle_max_fee_gwei must be in 1..=1000000",
        ),
        (
            format!("{whole}settle_max_priority_fee_gwei = 101\n"),
            "setting settle_max_priority_fee_gwei is more than settle_max_fee_gwei",
        ),
        (format!("{whole}settle_max_gas = 20999\n"), "setting settle_max_gas must be in 21000.."),
        (format!("{whole}settle_lease = '0s'\n"), "setting settle_lease must not be zero"),
        (format!("{whole}l1_poll = '0s'\n"), "setting l1_poll must not be zero"),
    ] {
        fs::write(&file, format!("rpc_url = 'http://127.0.0.1:9'\n{lines}")).expect("written");
        for command in [
            &["config", "check"][..],
            &["server", "--prover", "exec", "--danger-accept-exec", "--data-dir", &data],
        ] {
            let error = fails(1, &[command, &["--config", &config]].concat());
            assert!(error.contains(says) && !error.contains("KEYKEY"), "{says}: {error}");
        }
    }
    // Several, as flags have them; and one that other commands need does not hurt.
    let several = l1.replace(":9'", ":9,http://127.0.0.1:7/KEYKEY'");
    fs::write(&file, format!("rpc_url = 'http://127.0.0.1:9'\n{several}")).expect("written");
    let shown = text(&["config", "check", "--config", &config]);
    assert!(shown.contains(r#"["http://127.0.0.1:9","http://127.0.0.1:7/…"]"#), "{shown}");
    // The other way round: what the flags begin the file ends.
    fs::write(&file, format!("rpc_url = 'http://127.0.0.1:9'\n{l1}{signer}{address}"))
        .expect("written");
    let flag = ["--settle-rollup", "0x00000000000000000000000000000000000000aa"];
    text(&[&["config", "check", "--config", &config][..], &flag].concat());

    // What would never be settled is said: the server makes composite proofs, and contracts verify others.
    for (kind, warns) in [("groth16", true), ("composite", false)] {
        let kind = ["--settle-proof-kind", kind];
        let check = [&["config", "check", "--config", &config][..], &flag, &kind].concat();
        let warning = String::from_utf8(run(&check).stderr).expect("it is UTF-8");
        assert_eq!(warning.contains("this server makes no such proofs"), warns, "{warning}");
    }

    // A process of its own takes the same file.
    let (mut server, _) = Service::start(&[
        "server",
        "--dev-node",
        "--node-port",
        "0",
        "--prover",
        "exec",
        "--danger-accept-exec",
        "--listen-port",
        "0",
        "--data-dir",
        &data,
    ]);
    let settle = ["settle", "--dry-run", "--config", &config, "--data-dir", &data];
    let error = fails(1, &settle);
    assert!(error.contains("setting settle_rollup is missing"), "{error}");
    fs::write(&file, whole).expect("written");
    let error = fails(1, &settle);
    assert!(error.contains("failed to try it") && error.contains("127.0.0.1:9"), "{error}");
    let error = fails(1, &[&settle[..], &["--l1-rpc-url", "http://127.0.0.1:7"]].concat());
    assert!(error.contains("127.0.0.1:7"), "{error}");
    let forget = ["settle", "--forget", "--config", &config, "--data-dir", &data];
    let error = fails(1, &forget);
    assert!(error.contains("this server never settled in 0x"), "{error}");
    assert_eq!(server.terminate(), Some(0));
}
