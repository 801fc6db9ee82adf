//! Has cargo link anew what `deploy/link` changes.

fn main() {
    println!("cargo:rerun-if-changed=deploy/link");
}
