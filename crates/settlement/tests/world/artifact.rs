//! The contracts of this repository, as they are compiled.

use alloy_primitives::hex;
use std::path::Path;

/// What makes a contract.
pub(crate) fn bytecode(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts/artifacts");
    let text = std::fs::read_to_string(root.join(format!("{name}.json"))).unwrap();
    let artifact: serde_json::Value = serde_json::from_str(&text).unwrap();
    hex::decode(artifact["bytecode"].as_str().unwrap()).unwrap()
}
