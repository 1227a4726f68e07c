//! A file that takes its place only when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Written beside `path` under another name; [`NewFile::commit`] puts it there. Dropped before, it leaves no trace.
///
/// What is there and is no regular file (a pipe, `/dev/null`) is written to as it is.
pub(crate) struct NewFile {
    out: BufWriter<File>,
    path: PathBuf,
    temporary: Option<PathBuf>,
}

impl NewFile {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let special = fs::metadata(path).is_ok_and(|there| !there.is_file());
        let temporary = if special {
            None
        } else {
            let mut name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
            name.push(format!(".{}.part", std::process::id()));
            Some(path.with_file_name(name))
        };
        let file = match &temporary {
            Some(name) => File::create(name)?,
            None => File::options().write(true).open(path)?,
        };
        Ok(Self { out: BufWriter::new(file), path: path.to_owned(), temporary })
    }

    /// Flushes, and takes the place of what was there. Returns the length in bytes.
    pub(crate) fn commit(mut self) -> io::Result<u64> {
        self.out.flush()?;
        let len = self.out.get_ref().metadata()?.len();
        if let Some(temporary) = &self.temporary {
            fs::rename(temporary, &self.path)?;
            self.temporary = None;
        }
        Ok(len)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Seek for NewFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.out.seek(to)
    }
}
