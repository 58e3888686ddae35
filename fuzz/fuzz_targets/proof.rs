//! What clients and servers hand each other beside messages: plans, bundles of proofs, statements to be folded, proofs. Nothing panics, and
//! plans, bundles and statements have one encoding.
#![no_main]

use program::{Statement, fold};
use verifier::{Plan, Policy, System, bundle, plan, verify};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = Plan::decode(bytes) {
        assert_eq!(plan.encode(), bytes);
    }
    if let Ok(members) = bundle::decode(bytes) {
        assert_eq!(bundle::encode(&members).unwrap(), bytes);
    }
    if let Ok(read) = fold::decode(bytes) {
        let members: Vec<_> = read.into_iter().map(|(_, member)| member).collect();
        assert_eq!(fold::encode(&members), bytes);
        if let Ok(whole) = fold::fold(&members) {
            assert_eq!(Statement::abi_decode(&whole.abi_encode()), Ok(whole));
        }
    }
    for system in [System::Exec, System::Risc0] {
        let _claim = plan::claim_of(system, bytes);
    }
    // RISC Zero's verifier may panic on a seal, which `verify` catches and a fuzzer does not let pass: only our own format is read.
    let _receipt = verifier::risc0::receipt(System::Risc0.program_id(), bytes);
    let refused = verify(System::Exec, System::Exec.program_id(), bytes, &Policy::default());
    assert!(refused.is_err());
});
