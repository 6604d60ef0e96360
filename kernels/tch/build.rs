//! Compiles the calls of LibTorch that the crate `tch` has no functions for, and lets tests find LibTorch where it is.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "tch")]
    libtorch();
}

#[cfg(feature = "tch")]
fn libtorch() {
    use std::path::PathBuf;

    let calls = "src/libtorch/calls.cpp";
    println!("cargo:rerun-if-changed={calls}");
    for variable in ["LIBTORCH_INCLUDE", "LIBTORCH_CXX11_ABI"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let lib = std::env::var("DEP_TCH_LIBTORCH_LIB");
    let lib = PathBuf::from(lib.expect("torch-sys says where LibTorch's libraries are"));
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // Beside the libraries, in a folder of LibTorch as in PyTorch's wheel.
    let folder = std::env::var_os("LIBTORCH_INCLUDE").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| lib.parent().unwrap_or(&lib).into());
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".into());
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false) // of LibTorch's headers
        .include(folder.join("include"))
        .include(folder.join("include/torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .file(calls)
        .compile("clip_burn_libtorch");
}
