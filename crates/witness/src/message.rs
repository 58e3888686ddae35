//! JSON-RPC as nodes speak it, which is not always what its specification says.
//!
//! * An `error` of `null` is none, a missing `result` is `null`, a code may be text, an id may be text.
//! * Nothing is trusted: an answer counts only for the call whose id it has, the first one for each; others are left out. A
//!   batch's answer with more items than calls is refused where it becomes too long.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{SeqAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use std::fmt;

/// One call: method and parameters.
pub(crate) type Call = (&'static str, Value);

/// JSON-RPC's code for a method that does not exist.
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;

/// An error in JSON-RPC's own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: i64,
    pub(crate) message: String,
}

/// What is said about one call: its result, or why there is none.
pub(crate) type Said<'b> = Result<&'b RawValue, Refusal>;

/// What is said about several calls, in their order: `None` where nothing is.
pub(crate) type Answers<'b> = Vec<Option<Said<'b>>>;

#[derive(Serialize)]
struct Request<'c> {
    jsonrpc: &'static str,
    id: u64,
    method: &'c str,
    params: &'c Value,
}

/// The body that asks this, under this id.
pub(crate) fn one((method, params): &Call, id: u64) -> Vec<u8> {
    encoded(&Request { jsonrpc: "2.0", id, method, params })
}

/// The body that asks all this, under the ids from `first` on.
pub(crate) fn batch(calls: &[&Call], first: u64) -> Vec<u8> {
    let request = |((method, params), id): (&&Call, u64)| -> Vec<u8> {
        encoded(&Request { jsonrpc: "2.0", id, method, params })
    };
    let requests: Vec<Vec<u8>> = calls.iter().zip(first..).map(request).collect();
    [b"[".as_slice(), &requests.join(&b","[..]), b"]"].concat()
}

fn encoded(request: &Request<'_>) -> Vec<u8> {
    serde_json::to_vec(request).expect("a request has only text keys")
}

#[derive(Deserialize)]
struct Envelope<'b> {
    #[serde(borrow)]
    id: Option<&'b RawValue>,
    #[serde(borrow)]
    result: Option<&'b RawValue>,
    #[serde(borrow)]
    error: Option<&'b RawValue>,
}

impl<'b> Envelope<'b> {
    /// Whether this is about the call with this id. An error before the id was read has none.
    fn is_about(&self, id: u64) -> bool {
        match self.id {
            Some(said) => said.get().trim_matches('"') == id.to_string(),
            None => self.error.is_some(),
        }
    }

    fn said(&self) -> Said<'b> {
        match (self.error, self.result) {
            // Not all who have no error leave it out.
            (Some(error), Some(result)) if ["false", "{}", "\"\"", "0"].contains(&error.get()) => {
                Ok(result)
            }
            (Some(error), _) => Err(refusal(error.get())),
            (None, Some(result)) => Ok(result),
            (None, None) => Ok(null()),
        }
    }
}

fn null() -> &'static RawValue {
    serde_json::from_str("null").expect("null is JSON")
}

/// An error: an object with a code and a message, of whatever types, or a text.
fn refusal(error: &str) -> Refusal {
    #[derive(Deserialize)]
    struct Object<'b> {
        #[serde(borrow)]
        code: Option<&'b RawValue>,
        #[serde(borrow)]
        message: Option<&'b RawValue>,
    }
    let Ok(Object { code, message }) = serde_json::from_str(error) else {
        return Refusal { code: 0, message: error.trim_matches('"').to_owned() };
    };
    let code = code.and_then(|code| code.get().trim_matches('"').trim().parse().ok());
    let message = message.and_then(|message| serde_json::from_str(message.get()).ok());
    Refusal { code: code.unwrap_or_default(), message: message.unwrap_or_else(|| error.to_owned()) }
}

/// What this body says about the call with this id.
///
/// # Errors
/// Why it is no answer to that.
pub(crate) fn said(body: &[u8], id: u64) -> Result<Said<'_>, String> {
    if is_list(body) {
        let only = all_said(body, id, 1)?.map(|mut answers| answers.swap_remove(0));
        return only.map_or_else(|refusal| Ok(Err(refusal)), |said| said.ok_or_else(other));
    }
    let envelope = envelope(body)?;
    if envelope.is_about(id) { Ok(envelope.said()) } else { Err(other()) }
}

fn other() -> String {
    "its answer is to another question".into()
}

fn is_list(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

fn envelope(body: &[u8]) -> Result<Envelope<'_>, String> {
    let envelope: Envelope<'_> = serde_json::from_slice(body)
        .map_err(|error| format!("its answer is no JSON-RPC: {error}"))?;
    match (&envelope.id, &envelope.result, &envelope.error) {
        (None, None, None) => Err("its answer is no JSON-RPC".into()),
        _ => Ok(envelope),
    }
}

/// What this body says about `count` calls, with the ids from `first` on; or the one refusal of them all.
///
/// # Errors
/// Why it is no answer to that.
pub(crate) fn all_said(
    body: &[u8],
    first: u64,
    count: usize,
) -> Result<Result<Answers<'_>, Refusal>, String> {
    if !is_list(body) {
        let said = envelope(body)?.said();
        return said.map_or_else(
            |refusal| Ok(Err(refusal)),
            |_| Err("it answers a batch as if it were one call".into()),
        );
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let envelopes = json.deserialize_seq(AtMost(count)).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    let mut answers: Answers<'_> = (0..count).map(|_| None).collect();
    for envelope in envelopes {
        let id = envelope.id.and_then(|id| id.get().trim_matches('"').parse::<u64>().ok());
        let at = id.and_then(|id| usize::try_from(id.checked_sub(first)?).ok());
        if let Some(answer @ None) = at.and_then(|at| answers.get_mut(at)) {
            *answer = Some(envelope.said());
        }
    }
    Ok(Ok(answers))
}

/// A list of at most so many answers.
struct AtMost(usize);

impl<'b> Visitor<'b> for AtMost {
    type Value = Vec<Envelope<'b>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {} answers", self.0)
    }

    fn visit_seq<A: SeqAccess<'b>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut envelopes = Vec::new();
        while let Some(envelope) = list.next_element()? {
            if envelopes.len() == self.0 {
                return Err(serde::de::Error::custom("its answer to a batch has too many items"));
            }
            envelopes.push(envelope);
        }
        Ok(envelopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> Result<Result<String, Refusal>, String> {
        let said = said(body.as_bytes(), 7)?;
        Ok(said.map(|result| result.get().to_owned()))
    }

    #[test]
    fn one_answer_is_read_in_each_form_that_nodes_give_it() {
        let result = |text: &str| Ok(Ok(text.to_owned()));
        for (body, expected) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":"0x1"}"#, result("\"0x1\"")),
            (r#"{"id":"7","result":{"a":[1]},"error":null,"more":1}"#, result(r#"{"a":[1]}"#)),
            (r#"{"id":7,"result":null}"#, result("null")),
            (r#"{"id":7,"error":null}"#, result("null")),
            (r#"{"id":7,"result":1,"error":{}}"#, result("1")),
            (r#"{"id":7,"result":1,"error":false}"#, result("1")),
            (r#"[{"id":7,"result":1}]"#, result("1")),
        ] {
            assert_eq!(told(body), expected, "{body}");
        }
        let refused = |code, message: &str| Ok(Err(Refusal { code, message: message.to_owned() }));
        for (error, expected) in [
            (r#"{"code":-32601,"message":"no"}"#, refused(-32601, "no")),
            (r#"{"code":"-32601","message":"no","data":[]}"#, refused(-32601, "no")),
            (r#"{"code":-32000.5,"message":"no"}"#, refused(0, "no")),
            (r#"{"code":{},"message":"no"}"#, refused(0, "no")),
            (r#"{"code":4}"#, refused(4, r#"{"code":4}"#)),
            (r#"{"code":4,"message":["no"]}"#, refused(4, r#"{"code":4,"message":["no"]}"#)),
            (r#""too fast""#, refused(0, "too fast")),
            ("[]", refused(0, "[]")),
        ] {
            for id in ["7", "null", "\"7\""] {
                let body = format!(r#"{{"id":{id},"result":null,"error":{error}}}"#);
                assert_eq!(told(&body), expected, "{body}");
            }
        }
        let deep = format!(r#"{{"id":7,"result":{}}}"#, "[".repeat(100_000));
        for body in [
            r#"{"id":8,"result":1}"#,
            r#"{"result":1}"#,
            r#"{"id":8,"error":{"code":1,"message":"no"}}"#,
            r#"{"id":7,"result":1,"result":2}"#,
            r#"{"message":"Forbidden"}"#,
            "<html>",
            "[]",
            r#"[{"id":8,"result":1}]"#,
            r#"[{"id":7,"result":1},{"id":7,"result":1}]"#,
            "",
            r#"{"id":7,"result":"0"#,
            &deep,
        ] {
            assert!(told(body).is_err(), "{body:.40}");
        }
    }

    #[test]
    fn a_batch_s_answers_count_once_and_by_their_ids() {
        let body = r#" [{"id":9,"result":3},{"id":7,"result":1},{"id":7,"result":9}]"#;
        let found = all_said(body.as_bytes(), 7, 3).unwrap().unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|said| said.as_ref().map(|said| said.as_ref().unwrap().get()))
            .collect();
        assert_eq!(found, [Some("1"), None, Some("3")]);
        let body = r#"[{"id":6,"result":3},{"id":10,"result":1},{"id":null,"error":{}}]"#;
        let found = all_said(body.as_bytes(), 7, 3).unwrap().unwrap();
        assert!(found.iter().all(Option::is_none));
        let many = r#"[{"id":7,"result":1},{"id":8,"result":1},{"id":8,"result":1}]"#;
        assert!(all_said(many.as_bytes(), 7, 2).unwrap_err().contains("too many"));
        let refused = r#"{"error":{"code":-32600,"message":"no batches"}}"#;
        assert_eq!(all_said(refused.as_bytes(), 7, 2).unwrap().unwrap_err().code, -32600);
        for body in [r#"{"id":7,"result":1}"#, "[1]", "[{}", "[{}]]", "nope", ""] {
            assert!(all_said(body.as_bytes(), 7, 2).is_err(), "{body}");
        }
    }

    #[test]
    fn requests_are_what_the_specification_says() {
        let call: Call = ("eth_x", serde_json::json!([1]));
        let single = String::from_utf8(one(&call, 5)).unwrap();
        assert_eq!(single, r#"{"jsonrpc":"2.0","id":5,"method":"eth_x","params":[1]}"#);
        let both: Vec<Value> = serde_json::from_slice(&batch(&[&call, &call], 5)).unwrap();
        assert_eq!((both.len(), &both[1]["id"]), (2, &serde_json::json!(6)));
    }
}
