//! Has the linker write down what it linked, where `cargo xtask guests` asks for it.

fn main() {
    println!("cargo::rerun-if-env-changed=L2_GUEST_MAP");
    if let Ok(map) = std::env::var("L2_GUEST_MAP") {
        println!("cargo::rustc-link-arg-bins=-Map={map}");
    }
}
