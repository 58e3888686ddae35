//! The fenced blocks of a page, and the comments before them:
//!
//! * `<!-- run -->`: its commands end well, and print what a `console` shows.
//! * ``<!-- run beside `COMMAND` -->``: the same, while this command runs.
//! * `<!-- run in the background -->`: its one command goes on until the page's end.
//! * `<!-- not run: WHY -->`: it cannot run here.
//! * `<!-- file: NAME -->`: what the file contains that the page's commands read.
//! * `<!-- demo: NAME -->`: `scripts/operate_demo.sh` records it.

/// A fenced block.
#[derive(Debug)]
pub(super) struct Block {
    /// The page and the line.
    pub place: String,
    /// What the fence says it is.
    pub language: String,
    pub mark: Mark,
    pub text: String,
}

/// What the comment before a block says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mark {
    None,
    Run { beside: Option<String> },
    Background,
    Not,
    File(String),
    Demo,
}

/// The blocks of a page, in order.
pub(super) fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate();
    let mut before = "";
    while let Some((at, line)) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let place = format!("{page}:{}", at + 1);
            let mark = mark(before).unwrap_or_else(|| panic!("{place}: {before} says nothing"));
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let text = inside.map(|line| format!("{line}\n")).collect();
            blocks.push(Block { place, language: language.to_owned(), mark, text });
        }
        before = line;
    }
    blocks
}

/// What a line before a block says; nothing if it is a comment that nobody understands.
fn mark(line: &str) -> Option<Mark> {
    let Some(comment) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->"))
    else {
        return Some(Mark::None);
    };
    let beside = comment.strip_prefix("run beside `").and_then(|rest| rest.strip_suffix('`'));
    match (comment, comment.split_once(": ")) {
        ("run", _) => Some(Mark::Run { beside: None }),
        ("run in the background", _) => Some(Mark::Background),
        (_, Some(("not run", why))) if !why.is_empty() => Some(Mark::Not),
        (_, Some(("file", name))) => Some(Mark::File(name.to_owned())),
        (_, Some(("demo", _))) => Some(Mark::Demo),
        _ => beside.map(|command| Mark::Run { beside: Some(command.to_owned()) }),
    }
}

impl Block {
    /// Whether it runs here.
    pub(super) fn runs(&self) -> bool {
        matches!(self.mark, Mark::Run { .. } | Mark::Background)
    }

    /// What it has somebody type.
    pub(super) fn commands(&self) -> Vec<&str> {
        match self.language.as_str() {
            "console" => self.screens().into_iter().map(|(command, _)| command).collect(),
            _ => vec![&self.text],
        }
    }

    /// The commands of a `console`, each with what it prints.
    pub(super) fn screens(&self) -> Vec<(&str, &str)> {
        let text = self.text.strip_prefix("$ ").unwrap_or_else(|| panic!("{}: no $", self.place));
        text.split("\n$ ").map(|screen| screen.split_once('\n').unwrap_or((screen, ""))).collect()
    }
}

#[test]
fn blocks_have_marks_and_screens() {
    let page = "# A\n<!-- run -->\n```console\n$ a b\nc\n$ d\ne\n```\n\n```text\nx\n```\n<!-- not run: why -->\n```sh\ny\n```\n";
    let blocks = blocks("page", page);
    let marks: Vec<_> = blocks.iter().map(|block| (&*block.place, &block.mark)).collect();
    let run = Mark::Run { beside: None };
    assert_eq!(marks, [("page:3", &run), ("page:10", &Mark::None), ("page:14", &Mark::Not)]);
    assert_eq!(blocks[0].screens(), [("a b", "c"), ("d", "e\n")]);
    assert_eq!(mark("<!-- rn -->"), None);
    assert_eq!(mark("<!-- not run: -->"), None);
}
