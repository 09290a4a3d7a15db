//! The eBPF target's files: the committed objects, the images, the script, the capability table.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test that fails says where")]

#[expect(dead_code, reason = "each test uses a part")]
mod common;

use partywall_backends::ebpf::image::{Image, Refused};
use partywall_backends::{Request, Target, build};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

fn here(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Whether a tool is here; else it says so, and fails where everything is required.
fn able(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    println!("SKIPPED: {tool} is not here");
    assert!(std::env::var_os("PARTYWALL_LAB_REQUIRED").is_none(), "required, and not here: {tool}");
    false
}

#[test]
fn the_committed_objects_are_what_the_sources_compile_to() {
    if !able("clang-14") || !able("llvm-strip-14") {
        return;
    }
    let out = std::env::temp_dir().join(format!("partywall-objects-{}", std::process::id()));
    std::fs::create_dir_all(&out).unwrap();
    let status = Command::new("sh").arg(here("ebpf/build.sh")).arg(&out).status().unwrap();
    assert!(status.success());
    for name in ["partywall.bpf.o", "test.bpf.o"] {
        let same = std::fs::read(out.join(name)).unwrap() == std::fs::read(here("ebpf").join(name)).unwrap();
        assert!(same, "{name} is not what backends/ebpf/build.sh makes");
    }
    std::fs::remove_dir_all(out).unwrap();
}

fn image() -> Image {
    let entries = BTreeMap::from([(vec![1, 0, 0, 0], vec![7; 8]), (vec![2, 0, 0, 0], vec![9; 8])]);
    Image { kind: 1, key_size: 4, value_size: 8, max_entries: 2, flags: 0, entries }
}

/// The same bytes with another digest, so that only what was changed is wrong.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 32);
    let digest = blake3::hash(&bytes);
    bytes.extend(digest.as_bytes());
    bytes
}

#[test]
fn an_image_is_read_as_it_was_written_and_refused_otherwise() {
    let bytes = image().write();
    assert_eq!(Image::read(&bytes), Ok(image()));
    let changed = |at: usize, to: u8| {
        let mut other = bytes.clone();
        other[at] = to;
        other
    };
    assert_eq!(Image::read(&changed(0, b'X')), Err(Refused::Magic));
    assert_eq!(Image::read(&sealed(changed(6, 2))), Err(Refused::Version(2)));
    assert_eq!(Image::read(&changed(40, 9)), Err(Refused::Digest));
    assert_eq!(Image::read(&sealed(changed(48, 0))), Err(Refused::Order(1)));
    assert_eq!(Image::read(&sealed(changed(20, 1))), Err(Refused::Full { entries: 2, max_entries: 1 }));
    for cut in 0..bytes.len() {
        assert!(Image::read(&bytes[..cut]).is_err(), "{cut} bytes");
    }
    for (at, byte) in bytes.iter().enumerate() {
        assert!(Image::read(&changed(at, byte ^ 1)).is_err(), "byte {at}");
    }
}

#[test]
fn files_are_the_same_twice_and_the_script_is_clean() {
    let project = common::folder(&common::examples().join("02-datacenter"));
    let request = Request { targets: [Target::Ebpf].into(), ..Request::default() };
    let make = || build(&project.compiled, &project.sources, &request).unwrap_or_else(|e| panic!("{e:?}"));
    let (one, two) = (make(), make());
    assert_eq!(one.files, two.files);
    let mut images = 0;
    for file in one.files.iter().filter(|f| f.path.ends_with(".img")) {
        Image::read(&file.bytes).unwrap_or_else(|e| panic!("{} {e}", file.path));
        images += 1;
    }
    assert!(images > 100, "{images}");
    let script = one.files.iter().find(|f| f.path == "c1/ebpf/load.sh").unwrap();
    let path = std::env::temp_dir().join(format!("partywall-load-{}.sh", std::process::id()));
    std::fs::write(&path, &script.bytes).unwrap();
    let refused =
        Command::new("sh").arg(&path).env("PARTYWALL_BPF", "/sys/fs/bpf/some.where").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!((refused.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.contains("/sys/fs/bpf/some.where") && said.contains("dot"), "{said}");
    if !able("shellcheck") {
        std::fs::remove_file(path).unwrap();
        return;
    }
    let output = Command::new("shellcheck").arg(&path).output().unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
