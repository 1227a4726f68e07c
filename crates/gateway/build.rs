//! Puts the WebAssembly modules of the page into the program where they have been built (`make page`); without them the
//! page says how to get them.

use std::path::Path;
use std::{env, fs};

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bindings/wasm/dist");
    // The folder is always there, as a file that is not would have this run each time.
    println!("cargo::rerun-if-changed={}", dist.display());
    let modules = ["simd", "plain"].map(|name| dist.join(name).with_extension("wasm"));
    let source = if modules.iter().all(|module| module.is_file()) {
        let bytes = modules.map(|module| format!("include_bytes!({:?})", module.display().to_string()));
        format!("Some([{}])", bytes.join(", "))
    } else {
        "None".to_owned()
    };
    let out = env::var("OUT_DIR").expect("cargo says where to");
    let written = fs::write(
        Path::new(&out).join("modules.rs"),
        format!("/// With SIMD and without.\nconst MODULES: Option<[&[u8]; 2]> = {source};\n"),
    );
    written.expect("cargo's folder can be written to");
}
