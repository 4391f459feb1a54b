//! Gives the shared library its SONAME: the version of the binary interface, which is
//! `CSHM_ABI_VERSION` (a test compares them).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcache_shm.so.0");
}
