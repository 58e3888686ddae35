//! Has the linker take our `memcpy` for RISC Zero's, and write down what it linked, where `cargo xtask guests` asks for it.

fn main() {
    // RISC Zero's is in assembly, under the same name in any guest.
    println!("cargo::rustc-link-arg-bins=--defsym=memcpy=word_memcpy");
    println!("cargo::rerun-if-env-changed=L2_GUEST_MAP");
    if let Ok(map) = std::env::var("L2_GUEST_MAP") {
        println!("cargo::rustc-link-arg-bins=-Map={map}");
    }
}
