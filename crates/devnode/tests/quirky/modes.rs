//! How nodes and gateways behave, by kinds. Each mode is one that was reported of a real one.

use crate::proxy::{Asked, Mode, Say, error, method};
use flate2::{Compression, write::GzEncoder, write::ZlibEncoder};
use serde_json::{Value, json};
use std::io::Write;

const WITNESS: [&str; 2] = ["debug_executionWitness", "debug_executionWitnessByBlockHash"];
const DEBUG: [&str; 3] =
    ["debug_executionWitness", "debug_executionWitnessByBlockHash", "debug_getRawBlock"];

/// Answers the debug methods with this error.
macro_rules! debug {
    ($code:expr, $message:expr) => {
        |_| Say::Each(|call| DEBUG.contains(&method(call)).then(|| error(call, $code, $message)))
    };
}

/// Answers the witness methods with this error.
macro_rules! witness {
    ($code:expr, $message:expr) => {
        |_| Say::Each(|call| WITNESS.contains(&method(call)).then(|| error(call, $code, $message)))
    };
}

/// Says this the first time that something is asked.
macro_rules! once {
    ($say:expr) => {
        |asked| if asked.before == 0 { $say } else { Say::Node }
    };
}

/// Says this to batches, and has no debug methods, so that batches are needed.
macro_rules! batches {
    ($say:expr) => {
        |asked| {
            let say: fn(&Asked) -> Say = $say;
            if asked.is_batch() { say(asked) } else { without_debug(asked) }
        }
    };
}

fn without_debug(_: &Asked) -> Say {
    Say::Each(|call| DEBUG.contains(&method(call)).then(|| error(call, -32601, "method not found")))
}

fn html(status: u16) -> Say {
    Say::Http(status, "content-type: text/html", "<!DOCTYPE html><html>Just a moment</html>")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(bytes).unwrap();
    zlib.finish().unwrap()
}

/// Changes each answer, of a batch too.
fn each(value: Value, change: fn(&mut Value)) -> Value {
    let mut value = value;
    match &mut value {
        Value::Array(answers) => answers.iter_mut().for_each(change),
        answer => change(answer),
    }
    value
}

/// With all of these a block is prepared, alone.
pub(crate) const WORKS: &[(&str, Mode)] = &[
    // Debug methods refused in other words than "method not found".
    ("r_not_enabled", debug!(-32604, "Method not enabled")),
    ("r_plan", debug!(-32002, "Debug and trace APIs are not available on your current plan")),
    ("r_words", debug!(-32000, "kaputt")),
    (
        "r_501",
        |asked| {
            if asked.any_of(&DEBUG) { Say::Http(501, "", "Not Implemented") } else { Say::Node }
        },
    ),
    ("r_405", |asked| if asked.any_of(&DEBUG) { Say::Http(405, "", "") } else { Say::Node }),
    ("r_403", |asked| match asked.any_of(&DEBUG) {
        true => Say::Http(403, "content-type: application/json", r#"{"message":"Forbidden"}"#),
        false => Say::Node,
    }),
    ("r_text", |asked| match asked.any_of(&DEBUG) {
        true => Say::Json(json!({ "error": "namespace debug is not for you" })),
        false => Say::Node,
    }),
    // The raw block alone is refused, or is not there.
    ("r_raw_null", |_| {
        Say::Each(|call| {
            (method(call) == "debug_getRawBlock")
                .then(|| json!({ "id": call["id"], "result": null }))
        })
    }),
    // The witness method is there, and fails.
    ("w_commitment", witness!(-32000, "commitment history is not enabled")),
    ("w_parent", witness!(-32000, "parent layer missing")),
    ("w_4444", witness!(4444, "pruned history unavailable")),
    ("w_32003", witness!(-32003, "limit of the response size was exceeded")),
    ("w_null", |_| {
        Say::Each(|call| {
            WITNESS.contains(&method(call)).then(|| json!({ "id": call["id"], "result": null }))
        })
    }),
    ("w_type", |_| {
        Say::Each(|call| {
            WITNESS
                .contains(&method(call))
                .then(|| json!({ "id": call["id"], "result": { "state": 5 } }))
        })
    }),
    ("w_empty", |_| {
        Say::Each(|call| {
            WITNESS
                .contains(&method(call))
                .then(|| json!({ "id": call["id"], "result": { "state": [] } }))
        })
    }),
    ("w_504", |asked| if asked.any_of(&WITNESS) { html(504) } else { Say::Node }),
    ("w_hang_up", |asked| if asked.any_of(&WITNESS) { Say::HangUp } else { Say::Node }),
    // Some nodes are missing in it.
    ("w_lacks", |_| {
        Say::Edited(|value| {
            each(value, |answer| {
                if let Some(state) =
                    answer.pointer_mut("/result/state").and_then(Value::as_array_mut)
                {
                    let mut at = 0;
                    state.retain(|_| (at % 5 != 3, at += 1).0);
                }
            })
        })
    }),
    ("w_lacks_one", |_| {
        Say::Edited(|value| {
            each(value, |answer| {
                if let Some(state) =
                    answer.pointer_mut("/result/state").and_then(Value::as_array_mut)
                {
                    // A leaf: short, and not on the way to others.
                    let at = (0..state.len()).min_by_key(|at| state[*at].to_string().len());
                    state.remove(at.unwrap());
                }
            })
        })
    }),
    // Faults that pass.
    (
        "t_capacity",
        once!(Say::Json(json!({ "error": { "code": -32097, "message": "Rate limit exceeded" } }))),
    ),
    ("t_words", once!(Say::Json(json!({ "error": { "code": -32000, "message": "not so fast" } })))),
    ("t_502", once!(html(502))),
    ("t_504", once!(html(504))),
    ("t_520", once!(html(520))),
    (
        "t_500",
        once!(Say::Http(
            500,
            "",
            r#"{"id":null,"error":{"code":-32603,"message":"Internal error"}}"#
        )),
    ),
    (
        "t_429",
        once!(Say::Http(429, "retry-after: 1", r#"{"error":{"code":-32005,"message":"limit"}}"#)),
    ),
    ("t_429_now", once!(Say::Http(429, "retry-after: 0", ""))),
    ("t_cut", once!(Say::Cut)),
    ("t_reset", once!(Say::HangUp)),
    ("t_html", once!(html(200))),
    ("t_empty", once!(Say::Http(200, "", ""))),
    ("t_null", once!(Say::Edited(|value| each(value, |answer| answer["result"] = Value::Null)))),
    // Likewise, of batches.
    ("bt_429", batches!(once!(Say::Http(429, "", "Too Many Requests")))),
    ("bt_502", batches!(once!(html(502)))),
    ("bt_cut", batches!(once!(Say::Cut))),
    (
        "bt_items",
        batches!(|asked| match asked.before {
            0 => Say::Edited(|mut value| {
                let items = value.as_array_mut().unwrap().iter_mut().skip(1).step_by(2);
                items.for_each(|answer| *answer = error(answer, 429, "compute units per second"));
                value
            }),
            _ => Say::Node,
        }),
    ),
    // Batches refused.
    ("b_413", batches!(|_| html(413))),
    ("b_403", batches!(|_| Say::Http(403, "", "Forbidden"))),
    ("b_500", batches!(|_| Say::Http(500, "", ""))),
    ("b_hang_up", batches!(|_| Say::HangUp)),
    (
        "b_invalid",
        batches!(|_| Say::Json(
            json!({ "id": null, "error": { "code": -32600, "message": "no batches" } })
        )),
    ),
    ("b_empty", batches!(|_| Say::Json(json!([])))),
    ("b_first", batches!(|_| Say::Edited(|value| value[0].clone()))),
    (
        "b_most_10",
        batches!(|asked| match asked.calls().len() {
            ..=10 => Say::Node,
            _ => Say::Http(413, "", "batch too large"),
        }),
    ),
    (
        "b_cut_short",
        batches!(|_| Say::Edited(|mut value| {
            value.as_array_mut().unwrap().pop();
            value
        })),
    ),
    (
        "b_reordered",
        batches!(|_| Say::Edited(|mut value| {
            let answers = value.as_array_mut().unwrap();
            answers.reverse();
            value
        })),
    ),
    (
        "b_twice",
        batches!(|_| Say::Edited(|mut value| {
            let answers = value.as_array_mut().unwrap();
            let last = answers.len() - 1;
            answers[last] = answers[0].clone();
            value
        })),
    ),
    (
        "b_foreign",
        batches!(|_| Say::Edited(|mut value| {
            value[0]["id"] = json!(u64::MAX);
            value[1]["id"] = json!("?");
            value
        })),
    ),
    // Few slots in a proof.
    ("p_one_slot", |asked| match asked.any_of(&DEBUG) {
        true => without_debug(asked),
        false => Say::Each(|call| {
            let slots = call["params"][1].as_array().map_or(0, Vec::len);
            (method(call) == "eth_getProof" && slots > 1)
                .then(|| error(call, -32000, "too many keys (max 1)"))
        }),
    }),
    // Nulls, types and forms.
    ("e_error_null", |_| {
        Say::Edited(|value| {
            each(value, |answer| {
                let missing = if answer.get("result").is_some() { "error" } else { "result" };
                answer[missing] = Value::Null;
            })
        })
    }),
    ("e_string_code", debug!("-32601", "method not found")),
    ("e_string_id", |_| {
        Say::Edited(|value| each(value, |answer| answer["id"] = answer["id"].to_string().into()))
    }),
    ("e_mark", |_| Say::Packed("identity", |bytes| [b"\xef\xbb\xbf".as_slice(), bytes].concat())),
    ("e_list_of_one", |_| {
        Say::Edited(|value| if value.is_array() { value } else { json!([value]) })
    }),
    ("e_gzip", |_| Say::Packed("gzip", gzip)),
    ("e_gzip_unnamed", |_| Say::Packed("identity", gzip)),
    ("e_deflate", |_| Say::Packed("deflate", zlib)),
    ("e_null_proof", |asked| match asked.any_of(&DEBUG) {
        true => without_debug(asked),
        false => Say::Edited(|value| {
            each(value, |answer| {
                let Some(slots) =
                    answer["result"].get_mut("storageProof").and_then(Value::as_array_mut)
                else {
                    return;
                };
                if slots.is_empty() {
                    answer["result"]["storageProof"] = Value::Null;
                    return;
                }
                for slot in slots {
                    if slot["proof"] == json!([]) {
                        slot["proof"] = Value::Null;
                    }
                }
            })
        }),
    }),
];

/// With these no block is prepared, alone; what the refusal says.
pub(crate) const REFUSED: &[(&str, Mode, &[&str])] = &[
    (
        "n_retry_after_30",
        |asked| match asked.any_of(&DEBUG) || asked.any_of(&["eth_getProof"]) {
            true => Say::Http(429, "retry-after: 30", ""),
            false => Say::Node,
        },
        &["429", "left alone for 30 s", "--rpc-per-second"],
    ),
    (
        "n_no_key",
        |asked| match asked.any_of(&["eth_chainId"]) {
            true => Say::Node,
            false => Say::Http(401, "", "Must be authenticated!"),
        },
        &["401", "Must be authenticated!", "check the key"],
    ),
    (
        "n_proofs_pruned",
        |_| {
            Say::Each(|call| match method(call) {
                "eth_getProof" => Some(error(call, -32000, "missing trie node 12ab")),
                name => {
                    WITNESS.contains(&name).then(|| error(call, -32000, "parent layer missing"))
                }
            })
        },
        &["parent layer missing", "missing trie node 12ab", "use a node that keeps it"],
    ),
    (
        "n_proofs_null",
        |_| {
            Say::Each(|call| match method(call) {
                "eth_getProof" => Some(json!({ "id": call["id"], "result": null })),
                name => WITNESS.contains(&name).then(|| error(call, -32601, "method not found")),
            })
        },
        &["its answer is null", "use a node that keeps it"],
    ),
    (
        "n_neither",
        |_| {
            Say::Each(|call| match method(call) {
                "eth_getProof" => Some(error(call, -32601, "method not found")),
                name => DEBUG.contains(&name).then(|| error(call, -32601, "method not found")),
            })
        },
        &["neither debug_executionWitness nor eth_getProof", "enable its debug API"],
    ),
    (
        "n_down",
        |asked| if asked.any_of(&["eth_chainId"]) { Say::Node } else { html(502) },
        &["502", "look at it, or name another node"],
    ),
    (
        "n_other_id",
        |asked| match asked.any_of(&["eth_chainId"]) {
            true => Say::Node,
            false => Say::Edited(|value| each(value, |answer| answer["id"] = json!(7_777_777))),
        },
        &["to another question"],
    ),
    (
        "n_endless",
        |asked| match asked.any_of(&["eth_chainId", "eth_blockNumber"]) {
            true => Say::Node,
            false => Say::Endless("[ "),
        },
        &["longer than 2097152 bytes", "--rpc-max-answer-bytes"],
    ),
    (
        "n_bomb",
        |asked| match asked.any_of(&["eth_chainId", "eth_blockNumber"]) {
            true => Say::Node,
            false => Say::Packed("gzip", |_| gzip(&vec![b' '; 9 << 20])),
        },
        &["longer than 2097152 bytes", "--rpc-max-answer-bytes"],
    ),
    (
        "n_deep",
        |asked| match asked.any_of(&["eth_chainId", "eth_blockNumber"]) {
            true => Say::Node,
            false => Say::Edited(|mut value| {
                let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
                value["result"] = serde_json::from_str(&deep).unwrap();
                value
            }),
        },
        &["malformed"],
    ),
];

/// What nodes say when asked for a final block before there is one.
pub(crate) const NOTHING_FINAL: &[(&str, Mode)] = &[
    ("f_unknown_block", |_| {
        Say::Each(|call| tagged(call).then(|| error(call, -39001, "Unknown block")))
    }),
    ("f_string_code", |_| {
        Say::Each(|call| tagged(call).then(|| error(call, "-39001", "Unknown block")))
    }),
    ("f_not_found", |_| {
        Say::Each(|call| tagged(call).then(|| error(call, -32000, "finalized block not found")))
    }),
    ("f_words", |_| {
        Say::Each(|call| tagged(call).then(|| error(call, -32001, "resource unavailable")))
    }),
    ("f_null", |_| {
        Say::Each(|call| tagged(call).then(|| json!({ "id": call["id"], "result": null })))
    }),
];

fn tagged(call: &Value) -> bool {
    let tag = call["params"][0].as_str();
    method(call) == "eth_getBlockByNumber" && matches!(tag, Some("safe" | "finalized"))
}
