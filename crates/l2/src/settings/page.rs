//! docs/reference/settings.md, made of the flags and the settings' types. A test compares it, and `UPDATE_EXPECT=1` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};
use serde_json::Value;

use super::{Groups, paths};
use crate::cli::Cli;

const HEAD: &str = "\
# Settings

Written by `UPDATE_EXPECT=1 cargo nextest run -E 'test(the_page_of_settings)'` from the flags and the settings' types.

A flag wins over its variable, a variable over the file `.env` of the working folder, and all of them over the file of `server --config`, which is
TOML. `l2-prover config check` shows what counts, and where it comes from. Durations are written `500ms`, `30s`, `5m`, `24h` or `7days`; sizes are in
bytes; a flag without a value turns something on, as `true` does in the file and in a variable. `danger` stands before what weakens a guarantee.

";

const OTHERS: &str = "\
## Other variables

An engine's executable has variables of its own, `PROVER_BONSAI_…`: `l2-prover-bonsai --help`, and [engines.md](../engines.md). The standard
variables `OTEL_…` are for [traces](../operate.md#traces). [crates/l2/.example.env](../../crates/l2/.example.env) is a file `.env` to begin with.
";

#[test]
fn the_page_of_settings() {
    let mut cli = Cli::command();
    cli.build();
    let groups = Groups::new().expect("the defaults are objects");
    let mut values = groups.server.clone();
    values.extend(groups.node.clone());
    values.extend(groups.settle.clone());
    let keys: BTreeSet<_> = values.keys().cloned().collect();

    let mut page = HEAD.to_owned();
    let server = cli.find_subcommand("server").expect("there is a server");
    page += "## Server\n\nThe key in the file is the flag without dashes in front and with `_` for `-`; flags marked * have no key.\n\n";
    page += &flags(server, |arg| keys.contains(arg.get_id().as_str()));

    page += "## Keys of a server's file alone\n\n`limits.KEY` is `KEY` in the section `[limits]`.\n\n| key | value | default | meaning |\n|---|---|---|---|\n";
    let flagged: BTreeSet<_> = own(server).map(|arg| arg.get_id().as_str().to_owned()).collect();
    let mut docs = fields("", include_str!("../../../server/src/config.rs"));
    docs.extend(fields("limits.", include_str!("../../../server/src/config/limits.rs")));
    for key in paths(&values).into_iter().filter(|key| !flagged.contains(key)) {
        let (kind, meaning) = docs.get(&key).unwrap_or_else(|| panic!("{key} is no field"));
        let default = match key.split_once('.') {
            Some((section, name)) => &values[section][name],
            None => &values[&key],
        };
        let default = match default {
            Value::Null => String::new(),
            Value::String(text) => format!("`\"{text}\"`"),
            value => format!("`{value}`"),
        };
        writeln!(page, "| `{key}` | {kind} | {default} | {} |", cell(meaning)).expect("text");
    }

    let client = cli.find_subcommand("client").expect("there is a client");
    page += &format!("\n## Client\n\n{}", flags(client, |_| true));
    page += "## Every command\n\n";
    page += &table(cli.get_arguments().filter(|arg| arg.is_global_set()), |_| true);
    page += OTHERS;
    expect_test::expect_file!["../../../../docs/reference/settings.md"].assert_eq(&page);
}

/// The flags of `command` that not every command has.
fn own(command: &Command) -> impl Iterator<Item = &Arg> {
    let everywhere = ["help", "version"];
    command.get_arguments().filter(move |arg| {
        !arg.is_global_set() && !arg.is_hide_set() && !everywhere.contains(&arg.get_id().as_str())
    })
}

fn flags(command: &Command, has_key: impl Fn(&Arg) -> bool) -> String {
    table(own(command), has_key)
}

fn table<'a>(args: impl Iterator<Item = &'a Arg>, has_key: impl Fn(&Arg) -> bool) -> String {
    let mut table =
        "| flag | variable | value | default | meaning |\n|---|---|---|---|---|\n".to_owned();
    for arg in args {
        let flag = arg.get_long().expect("settings have long names");
        let star = if has_key(arg) { "" } else { " *" };
        let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy()));
        let takes = arg.get_action().takes_values();
        let choices: Vec<_> = arg
            .get_possible_values()
            .iter()
            .filter(|_| takes)
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let value = match (takes, arg.get_value_names()) {
            (false, _) => String::new(),
            (true, _) if !choices.is_empty() => choices.join(", "),
            (true, names) => names.map(|names| names.join(" ")).unwrap_or_default(),
        };
        let defaults: Vec<_> = arg.get_default_values().iter().filter(|_| takes).collect();
        let default: String =
            defaults.iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        let meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(
            table,
            "| `--{flag}`{star} | {} | {value} | {default} | {} |",
            variable.unwrap_or_default(),
            cell(&meaning)
        )
        .expect("text");
    }
    table + "\n"
}

/// The public fields of the structs in `source`, by their keys after `prefix`: what they take, and their documentation.
fn fields(prefix: &str, source: &str) -> BTreeMap<String, (&'static str, String)> {
    let mut fields = BTreeMap::new();
    let (mut docs, mut renamed) = (String::new(), None);
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            docs += &format!("{text} ");
        } else if let Some((_, rest)) = line.split_once("rename = \"") {
            renamed = rest.split('"').next().map(str::to_owned);
        } else if line.starts_with("#[") {
        } else {
            let field = line.strip_prefix("pub ").and_then(|field| field.split_once(": "));
            if let Some((name, kind)) = field.filter(|(name, _)| !name.contains([' ', '('])) {
                let key = format!("{prefix}{}", renamed.take().unwrap_or_else(|| name.to_owned()));
                fields.insert(key, (taken(kind.trim_end_matches(',')), plain(&docs)));
            }
            docs.clear();
        }
    }
    fields
}

/// What a field of the type `kind` takes in the file.
fn taken(kind: &str) -> &'static str {
    match kind.strip_prefix("Option<").map_or(kind, |inner| inner.trim_end_matches('>')) {
        "Duration" => "duration",
        "bool" => "`true`, `false`",
        "u16" | "u32" | "u64" | "usize" | "NonZeroU32" => "number",
        "B256" => "32 bytes, `0x…`",
        "String" | "PathBuf" | "Url" => "text",
        // Such fields have flags, or are of no file.
        _ => "",
    }
}

/// Documentation without links.
fn plain(docs: &str) -> String {
    let mut text = String::new();
    let mut rest = docs;
    while let Some((before, link)) = rest.split_once("[`") {
        let (name, after) = link.split_once("`]").expect("a link's text ends");
        text += &format!("{before}`{name}`");
        rest = match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
    }
    (text + rest).trim().trim_end_matches('.').to_owned()
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|").replace('<', "&lt;")
}
