//! Opens files below a folder.
//!
//! Invariant: no path, however it is written and whatever links stand on its way, opens a file
//! outside of the folder. On Linux the kernel resolves and opens in one step (`openat2` with
//! `RESOLVE_BENEATH`), so a link that is swapped in between gains nothing.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Non-blocking, since opening a named pipe would wait for its writer; files do not care.
fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK
}

/// Opens a regular file, or whatever else is there, for reading.
///
/// # Errors
/// `XDEV` or `LOOP` if the path leads out of `root`, others as `open`.
#[cfg(target_os = "linux")]
pub(crate) fn open_beneath(root: &Path, relative: &Path) -> Result<File, Errno> {
    use rustix::fs::ResolveFlags;
    let folder = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(&folder, relative, flags(), Mode::empty(), resolve) {
        Ok(file) => Ok(file.into()),
        // Kernels before 5.6, and sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => open_resolved(root, relative),
        Err(errno) => Err(errno),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn open_beneath(root: &Path, relative: &Path) -> Result<File, Errno> {
    open_resolved(root, relative)
}

/// Where the kernel cannot do it in one step: resolve, compare, open. Who can write below `root`
/// could swap a link in between.
fn open_resolved(root: &Path, relative: &Path) -> Result<File, Errno> {
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let resolved = root.join(relative).canonicalize().map_err(errno)?;
    if !resolved.starts_with(root.canonicalize().map_err(errno)?) {
        return Err(Errno::XDEV);
    }
    Ok(rustix::fs::open(resolved, flags() | OFlags::NOFOLLOW, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    type Opener = fn(&Path, &Path) -> Result<File, Errno>;

    #[test]
    fn only_what_lies_below_the_root_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/in"), "inside").unwrap();
        std::fs::write(dir.path().join("out"), "outside").unwrap();
        symlink("sub/in", root.join("link-in")).unwrap();
        symlink("../out", root.join("link-out")).unwrap();
        symlink(dir.path(), root.join("folder-out")).unwrap();
        for opener in [open_beneath as Opener, open_resolved] {
            for path in ["sub/in", "./sub/../sub/in", "link-in"] {
                let mut text = String::new();
                opener(&root, Path::new(path))
                    .unwrap()
                    .read_to_string(&mut text)
                    .unwrap();
                assert_eq!(text, "inside", "{path}");
            }
            for path in ["../out", "sub/../../out", "link-out", "folder-out/out"] {
                assert_eq!(opener(&root, Path::new(path)).unwrap_err(), Errno::XDEV, "{path}");
            }
        }
    }
}
