//! Where a project lies, for reports that others read: in its repository, or seen from the working folder.

use std::path::{Component, Path, PathBuf};

/// What makes a project's paths relative to the root of the repository that holds it: empty, or a path with `/` at its
/// end. Outside of a repository it is relative to the working folder if the project lies below that, else empty.
#[must_use]
pub fn in_repository(project: &Path) -> String {
    let Some(folder) = folder(project) else { return String::new() };
    if let Some(root) = folder.ancestors().find(|above| above.join(".git").exists()) {
        return prefix(root, &folder);
    }
    let below = std::env::current_dir().and_then(|here| here.canonicalize()).ok();
    below.filter(|here| folder.starts_with(here)).map_or_else(String::new, |here| prefix(&here, &folder))
}

/// What makes a project's paths relative to the working folder.
#[must_use]
pub fn from_here(project: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    match (folder(project), here) {
        (Some(folder), Ok(here)) => prefix(&here, &folder),
        _ => String::new(),
    }
}

/// The folder that a project's paths are relative to, without links.
fn folder(project: &Path) -> Option<PathBuf> {
    let place = project.canonicalize().ok()?;
    if place.is_dir() { Some(place) } else { place.parent().map(Path::to_owned) }
}

/// The way from one absolute folder to another.
fn prefix(from: &Path, to: &Path) -> String {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| "..".into());
    let down = to.components().skip(shared).map(Component::as_os_str).map(std::ffi::OsStr::to_string_lossy);
    up.chain(down).flat_map(|part: std::borrow::Cow<'_, str>| [part, "/".into()]).collect()
}

#[cfg(test)]
mod tests {
    use super::prefix;
    use std::path::Path;

    #[test]
    fn ways() {
        let way = |from, to| prefix(Path::new(from), Path::new(to));
        assert_eq!(way("/a/b", "/a/b"), "");
        assert_eq!(way("/a/b", "/a/b/c d/é"), "c d/é/");
        assert_eq!(way("/a/b/c", "/a/d"), "../../d/");
        assert_eq!(way("/", "/a"), "a/");
    }
}
