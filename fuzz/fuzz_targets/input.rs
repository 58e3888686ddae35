//! The program on any bytes: a typed refusal, or a statement that it gives again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let outcome = program::run(bytes);
    assert_eq!(outcome, program::run(bytes), "the program is deterministic");
});
