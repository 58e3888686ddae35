//! What the dashboard shows, as text of JSON, and the difference between two times.

use axum::body::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

type Section = BTreeMap<String, Box<RawValue>>;

/// Sections of things, each under its key.
#[derive(Clone, Debug, Default)]
pub struct Board(BTreeMap<&'static str, Section>);

/// What changed, or everything.
#[derive(Serialize)]
struct Change<'b> {
    /// The server's time.
    now: u64,
    /// What is not named is gone.
    whole: bool,
    set: BTreeMap<&'static str, BTreeMap<&'b str, &'b RawValue>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    gone: BTreeMap<&'static str, Vec<&'b str>>,
}

impl Board {
    /// Puts something there.
    pub fn put(&mut self, section: &'static str, key: impl ToString, value: &impl Serialize) {
        let value = serde_json::value::to_raw_value(value).expect("what is shown has text keys");
        self.0.entry(section).or_default().insert(key.to_string(), value);
    }

    /// All of it, as an event.
    pub fn whole(&self, now: u64) -> Bytes {
        let mut set = BTreeMap::new();
        for (name, section) in &self.0 {
            let section = section.iter().map(|(key, value)| (key.as_str(), value.as_ref()));
            set.insert(*name, section.collect());
        }
        event(&Change { now, whole: true, set, gone: BTreeMap::new() })
    }

    /// What is different since `before`, as an event; none if nothing is.
    pub fn since(&self, before: &Self, now: u64) -> Option<Bytes> {
        let mut change = Change { now, whole: false, set: BTreeMap::new(), gone: BTreeMap::new() };
        let empty = Section::new();
        for (name, section) in &self.0 {
            let old = before.0.get(name).unwrap_or(&empty);
            let same = |key: &str, value: &RawValue| {
                old.get(key).is_some_and(|old| old.get() == value.get())
            };
            let set: BTreeMap<_, _> = section
                .iter()
                .filter(|(key, value)| !same(key, value))
                .map(|(key, value)| (key.as_str(), value.as_ref()))
                .collect();
            if !set.is_empty() {
                change.set.insert(name, set);
            }
        }
        for (name, old) in &before.0 {
            let section = self.0.get(name).unwrap_or(&empty);
            let gone: Vec<_> =
                old.keys().filter(|key| !section.contains_key(*key)).map(String::as_str).collect();
            if !gone.is_empty() {
                change.gone.insert(name, gone);
            }
        }
        (!change.set.is_empty() || !change.gone.is_empty()).then(|| event(&change))
    }
}

/// As a server-sent event. The JSON has no line breaks, since strings in it have theirs escaped.
fn event(change: &Change<'_>) -> Bytes {
    let json = serde_json::to_string(change).expect("it has text keys");
    format!("data: {json}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn text(event: Option<Bytes>) -> String {
        event.map_or("nothing".into(), |bytes| String::from_utf8(bytes.into()).unwrap())
    }

    #[test]
    fn only_what_changed_is_told() {
        let mut before = Board::default();
        before.put("jobs", "a", &"ready");
        before.put("jobs", "b", &"ready");
        before.put("clients", "c", &"line\nbreak </script>");
        let mut after = before.clone();
        expect!["nothing"].assert_eq(&text(after.since(&before, 1)));
        after.put("jobs", "a", &"leased");
        expect![[r#"
            data: {"now":1,"whole":false,"set":{"jobs":{"a":"leased"}}}

        "#]]
        .assert_eq(&text(after.since(&before, 1)));
        expect![[r#"
            data: {"now":2,"whole":true,"set":{"clients":{"c":"line\nbreak </script>"},"jobs":{"a":"ready","b":"ready"}}}

        "#]]
        .assert_eq(&text(Some(before.whole(2))));
        let mut less = Board::default();
        less.put("jobs", "b", &"ready");
        expect![[r#"
            data: {"now":3,"whole":false,"set":{},"gone":{"clients":["c"],"jobs":["a"]}}

        "#]]
        .assert_eq(&text(less.since(&before, 3)));
    }
}
