//! Wire messages from any bytes: what is understood is said again in the same words.
#![no_main]

use protocol::ProofData;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = serde_json::from_slice::<ProofData>(bytes) else { return };
    let text = serde_json::to_string(&message).unwrap();
    let again: ProofData = serde_json::from_str(&text).unwrap();
    assert_eq!(again, message);
});
