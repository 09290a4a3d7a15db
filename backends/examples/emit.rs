//! `cargo run -p partywall-backends --example emit -- PROJECT OUT`: the artifacts of a project, without the checks that
//! `partywall build` does first.

#[path = "../tests/common/mod.rs"]
mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (project, out) = (arguments.next().unwrap(), arguments.next().unwrap());
    let project = common::folder(Path::new(&project));
    let request = partywall_backends::Request { version: "0".into(), ..Default::default() };
    let bundle = partywall_backends::build(&project.compiled, &project.sources, &request).unwrap();
    for file in &bundle.files {
        let path = Path::new(&out).join(&file.path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &file.bytes).unwrap();
        let mode = if file.executable { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}
