//! The commands in the book, whose pages docs/SUMMARY.md names.
//!
//! * Before each block of commands stands a comment that says whether it runs here ([`blocks`]).
//! * What can run runs, page by page, with the real command, in a fresh folder ([`run`]).
//! * What cannot run names only commands, flags, values, variables, targets and files that there are ([`words`]).

mod blocks;
mod run;
mod words;

use std::collections::BTreeMap;
use std::process::Command;

use self::blocks::{Block, Mark, blocks};
use self::run::{Machine, shape};
use self::words::{Known, commands};
use crate::common::{run as run_command, without_settings};
use crate::deploy::{calls, root, wrong};

/// The pages of the book, by their paths from the root.
fn pages() -> BTreeMap<String, String> {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).expect("the contents");
    let links = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let pages = links.map(|link| match link.strip_prefix("../") {
        Some(outside) => outside.to_owned(),
        None => format!("docs/{link}"),
    });
    let read = |page: String| {
        let text = std::fs::read_to_string(root().join(&page)).expect("the book has its pages");
        (page, text)
    };
    pages.map(read).collect()
}

/// The blocks of all pages.
fn all_blocks() -> Vec<Block> {
    pages().iter().flat_map(|(page, text)| blocks(page, text)).collect()
}

#[test]
fn every_block_says_what_it_is_and_commands_whether_they_run() {
    let mut mistakes = Vec::new();
    let (mut run, mut not_run) = (0, 0);
    for block in all_blocks() {
        let place = &block.place;
        match (block.language.as_str(), &block.mark) {
            ("", _) => mistakes.push(format!("{place}: say what this is: sh, console, text, …")),
            ("sh" | "console", Mark::Run { .. } | Mark::Background) => run += 1,
            ("console", Mark::Demo) => run += 1,
            ("sh" | "console", Mark::Not) => not_run += 1,
            ("sh" | "console", _) => {
                mistakes.push(format!("{place}: `<!-- run -->`, or `<!-- not run: WHY -->`?"));
            }
            (_, Mark::None | Mark::File(_)) => {
                let starts = ["$ ", "l2-prover ", "make ", "cargo "];
                let hidden = |line: &&str| starts.iter().any(|start| line.starts_with(start));
                let hidden = block.text.lines().find(hidden);
                mistakes.extend(hidden.map(|line| format!("{place}: a command as text: {line}")));
            }
            _ => mistakes.push(format!("{place}: only sh and console can run")),
        }
    }
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    assert!(run > 35 && not_run > 50, "{run} and {not_run}");
}

#[test]
fn commands_of_the_book_name_only_what_there_is() {
    let known = Known::new();
    let (mut mistakes, mut checked) = (Vec::new(), 0);
    for block in all_blocks() {
        if !["sh", "console"].contains(&block.language.as_str()) {
            continue;
        }
        for text in block.commands() {
            for command in commands(text) {
                checked += 1;
                let wrong = known.wrong(&command);
                mistakes.extend(wrong.map(|wrong| format!("{}: {wrong}", block.place)));
            }
            for variable in known.unknown_variables(text) {
                mistakes.push(format!("{}: nobody reads {variable}", block.place));
            }
        }
    }
    // In the sentences, too.
    for (page, text) in pages() {
        let inside = blocks(&page, &text).into_iter().map(|block| block.text);
        let prose = inside.fold(text, |text, block| text.replace(&block, ""));
        for call in calls(&prose) {
            checked += 1;
            let wrong = call.map_or_else(Some, |call| {
                let any = call.first().is_some_and(|command| command == "COMMAND");
                wrong(&call).filter(|_| !any)
            });
            // A flag may be mentioned without its value.
            let wrong = wrong.filter(|wrong| !wrong.contains("error: a value is required"));
            mistakes.extend(wrong.map(|wrong| format!("{page}: {wrong}")));
        }
    }
    assert!(mistakes.is_empty(), "{mistakes:#?}");
    assert!(checked > 250, "{checked}");
}

#[test]
fn a_mistake_in_a_command_of_the_book_is_found() {
    let known = Known::new();
    let mistakes = |text: &str| {
        commands(text).iter().filter_map(|command| known.wrong(command)).collect::<Vec<_>>()
    };
    for text in [
        "l2-prover sever --rpc-url URL",
        "l2-prover server --rpc-ulr URL",
        "l2-prover server --auth sometimes",
        "l2-prover server --listen-port many",
        "l2-prover execute … | l2-prover inspectt -",
        "for block in 1 2; do l2-prover prove --blok $block; done",
        "docker compose exec server-1 l2-prover statos",
        "make anvill",
        "cargo xtask page",
        "scripts/operate.sh l2-prover",
        "cargo nextest run -E 'test(no_such_test_anywhere)'",
    ] {
        assert_eq!(mistakes(text).len(), 1, "{text}");
    }
    for text in [
        "l2-prover server --auth required --first-block N --listen-port PORT",
        "l2-prover prove --rpc-url URL,URL --block $block --beneficiary 0x… \\\n  --out a.proof   # a comment: --bad",
        "l2-prover jobs show JOB --server http://a:3900 > file",
        "l2-prover deploy           …",
        "install -d -g l2-prover /etc/l2-prover",
        "make dev ARGS=\"--blocks 3\" && cargo xtask guests --check",
    ] {
        assert_eq!(mistakes(text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(known.unknown_variables("export PROVER_SERVER_DATABSE=x OTHER=y").len(), 1);
}

#[test]
fn commands_of_the_book_run() {
    let mut by_page: BTreeMap<String, Vec<Block>> = BTreeMap::new();
    for block in all_blocks() {
        let page = block.place.split(':').next().expect("a page").to_owned();
        by_page.entry(page).or_default().push(block);
    }
    by_page.retain(|_, blocks| blocks.iter().any(Block::runs));
    assert!(by_page.len() >= 7, "{:?}", by_page.keys());
    std::thread::scope(|scope| {
        for blocks in by_page.values() {
            scope.spawn(move || Machine::new().run(blocks));
        }
    });
}

#[test]
fn the_screens_of_an_operator_are_what_the_commands_print() {
    let text = std::fs::read_to_string(root().join("docs/operate.md")).expect("the page");
    let folder = tempfile::tempdir().expect("temporary folder");
    let page = folder.path().join("operate.md");
    std::fs::write(&page, &text).expect("written");
    let mut demo = Command::new(root().join("scripts/operate_demo.sh"));
    without_settings(&mut demo);
    let prover = assert_cmd::cargo::cargo_bin!("l2-prover");
    let output = demo.arg(prover).env("PAGE", &page).output().expect("bash");
    assert!(output.status.success(), "{output:?}");
    let made = std::fs::read_to_string(&page).expect("the page");
    let screens = |text: &str| {
        let blocks = blocks("docs/operate.md", text).into_iter();
        blocks.filter(|block| block.mark == Mark::Demo).collect::<Vec<_>>()
    };
    let (shown, made) = (screens(&text), screens(&made));
    assert!(shown.len() > 20 && shown.len() == made.len(), "{}", shown.len());
    for (shown, made) in shown.iter().zip(&made) {
        let (old, new) = (shape(&shown.text), shape(&made.text));
        assert_eq!(old, new, "{}; scripts/operate_demo.sh records it again", shown.place);
    }
}

#[test]
fn the_help_of_a_command_judges_its_flags_and_values_first() {
    for (arguments, code) in [
        (&["server", "--auth", "required", "--help"][..], 0),
        (&["server", "--auth", "sometimes", "--help"], 2),
        (&["server", "--rpc-ulr", "--help"], 2),
    ] {
        assert_eq!(run_command(arguments).status.code(), Some(code), "{arguments:?}");
    }
}
