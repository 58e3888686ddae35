//! Where tests come from: folders, files and archives, read one file at a time.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// One JSON file.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path; for a file in an archive, after the archive's path.
    pub name: String,
    /// Its content.
    pub json: Vec<u8>,
}

/// Why tests could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The path could not be read.
    #[error("failed to read {path}")]
    Unreadable {
        /// Path of the file, folder or archive.
        path: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The file holds no blockchain tests.
    #[error("{path} is no file of blockchain tests (`blockchain_tests` of execution-spec-tests)")]
    Malformed {
        /// Path of the file.
        path: String,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
}

/// Passes every JSON file in `paths` to `sink`, until it returns `false`. Folders are read in the order of
/// names.
///
/// # Errors
/// [`SourceError::Unreadable`].
pub fn read(paths: &[PathBuf], sink: &mut dyn FnMut(File) -> bool) -> Result<(), SourceError> {
    for path in paths {
        let unreadable =
            |source| SourceError::Unreadable { path: path.display().to_string(), source };
        if path.is_dir() {
            for entry in walkdir::WalkDir::new(path).sort_by_file_name() {
                let entry = entry.map_err(|error| unreadable(error.into()))?;
                if is_test(entry.path()) && !sink(read_file(entry.path())?) {
                    return Ok(());
                }
            }
            continue;
        }
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let goes_on = if name.ends_with(".tar.zst") {
            let file = fs::File::open(path).map_err(unreadable)?;
            let plain = zstd::Decoder::new(file).map_err(unreadable)?;
            read_archive(path, plain, sink).map_err(unreadable)?
        } else if name.ends_with(".tar") {
            let file = fs::File::open(path).map_err(unreadable)?;
            read_archive(path, io::BufReader::new(file), sink).map_err(unreadable)?
        } else {
            sink(read_file(path)?)
        };
        if !goes_on {
            return Ok(());
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<File, SourceError> {
    let name = path.display().to_string();
    match fs::read(path) {
        Ok(json) => Ok(File { name, json }),
        Err(source) => Err(SourceError::Unreadable { path: name, source }),
    }
}

fn read_archive(
    path: &Path,
    plain: impl Read,
    sink: &mut dyn FnMut(File) -> bool,
) -> io::Result<bool> {
    for entry in tar::Archive::new(plain).entries()? {
        let mut entry = entry?;
        let inside = entry.path()?.into_owned();
        if !entry.header().entry_type().is_file() || !is_test(&inside) {
            continue;
        }
        let mut json = Vec::new();
        entry.read_to_end(&mut json)?;
        if !sink(File { name: path.join(inside).display().to_string(), json }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Fixture releases keep an index and other notes in hidden folders.
fn is_test(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
        && !path.components().any(|part| part.as_os_str() == ".meta")
}
