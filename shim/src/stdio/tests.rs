//! Streams without a process: FIFOs, files and terminals, with a test at the other end.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use tempfile::TempDir;

use super::*;

/// No step of these tests takes this long; a hang ends here.
const HANG: Duration = Duration::from_secs(30);

fn fifo(dir: &TempDir, name: &str) -> String {
    let path = dir.path().join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path.to_str().unwrap().to_owned()
}

const OWNER: Owner<'static> = Owner { namespace: "test", id: "t", in_pod: false };

async fn opened(paths: &StdioPaths) -> Result<(TaskStdio, HeldStdio), StdioError> {
    open(paths, OWNER, None).await
}

/// Runs what blocks apart, so that a hang fails the test instead of stopping it.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::time::timeout(HANG, tokio::task::spawn_blocking(work)).await.unwrap().unwrap()
}

#[tokio::test]
async fn output_opens_without_a_reader_and_arrives_when_one_comes() {
    let dir = TempDir::new().unwrap();
    let path = fifo(&dir, "out");
    let paths = StdioPaths { stdout: path.clone(), ..StdioPaths::default() };
    let (task, _held) = opened(&paths).await.unwrap();
    File::from(task.stdout).write_all(b"hello").unwrap();

    let text = apart(move || {
        let nonblock = OFlags::NONBLOCK.bits().try_into().unwrap();
        let reader = OpenOptions::new().read(true).custom_flags(nonblock).open(path);
        let mut text = [0; 5];
        reader.unwrap().read_exact(&mut text).unwrap();
        text
    })
    .await;

    assert_eq!(&text, b"hello");
}

#[tokio::test]
async fn a_reader_that_goes_away_does_not_break_the_pipe() {
    let dir = TempDir::new().unwrap();
    let path = fifo(&dir, "out");
    let paths = StdioPaths { stdout: path.clone(), ..StdioPaths::default() };
    let (task, _held) = opened(&paths).await.unwrap();
    drop(File::open(&path).unwrap());

    File::from(task.stdout).write_all(b"x").unwrap();
}

#[tokio::test]
async fn input_waits_for_its_writer_and_ends_with_it() {
    let dir = TempDir::new().unwrap();
    let path = fifo(&dir, "in");
    let paths = StdioPaths { stdin: path.clone(), ..StdioPaths::default() };
    let (task, _held) = opened(&paths).await.unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        File::from(task.stdin).read_to_end(&mut text).unwrap();
        text
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!reading.is_finished(), "no writer yet is not the end");

    apart(move || OpenOptions::new().write(true).open(path).unwrap().write_all(b"hi").unwrap())
        .await;

    assert_eq!(tokio::time::timeout(HANG, reading).await.unwrap().unwrap(), b"hi");
}

#[tokio::test]
async fn closing_input_ends_it_for_a_client_that_never_came() {
    let dir = TempDir::new().unwrap();
    let paths = StdioPaths { stdin: fifo(&dir, "in"), ..StdioPaths::default() };
    for in_pod in [false, true] {
        let (task, mut held) = open(&paths, Owner { in_pod, ..OWNER }, None).await.unwrap();

        held.close_stdin();

        let text = apart(move || io::read_to_string(File::from(task.stdin)).unwrap()).await;
        assert_eq!(text, "");
    }
}

#[tokio::test]
async fn closing_input_loses_nothing_that_was_written() {
    let dir = TempDir::new().unwrap();
    let path = fifo(&dir, "in");
    let paths = StdioPaths { stdin: path.clone(), ..StdioPaths::default() };
    let (task, mut held) = opened(&paths).await.unwrap();
    let mut writer = apart(move || OpenOptions::new().write(true).open(path).unwrap()).await;
    writer.write_all(b"hi").unwrap();

    held.close_stdin();
    drop(writer);

    let text = apart(move || io::read_to_string(File::from(task.stdin)).unwrap()).await;
    assert_eq!(text, "hi");
}

#[tokio::test]
async fn input_in_a_pod_outlives_its_client() {
    let dir = TempDir::new().unwrap();
    let path = fifo(&dir, "in");
    let paths = StdioPaths { stdin: path.clone(), ..StdioPaths::default() };
    let in_pod = Owner { in_pod: true, ..OWNER };
    let (task, mut held) = open(&paths, in_pod, None).await.unwrap();
    let write = |text: &'static [u8]| {
        let path = path.clone();
        apart(move || OpenOptions::new().write(true).open(path).unwrap().write_all(text).unwrap())
    };
    let mut reader = File::from(task.stdin);

    write(b"one").await;
    let mut first = [0; 3];
    reader = apart(move || {
        reader.read_exact(&mut first).unwrap();
        reader
    })
    .await;
    write(b"two").await;
    held.close_stdin();

    let rest = apart(move || io::read_to_string(reader).unwrap()).await;
    assert_eq!(rest, "two");
}

#[tokio::test]
async fn a_file_is_made_with_its_directories_and_appended_to() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a/b/log");
    let uri = format!("file://{}", file.display());
    let paths = StdioPaths { stdout: uri.clone(), stderr: uri, ..StdioPaths::default() };
    for _ in 0..2 {
        let (task, _held) = opened(&paths).await.unwrap();
        File::from(task.stdout).write_all(b"out ").unwrap();
        File::from(task.stderr).write_all(b"err\n").unwrap();
    }

    assert_eq!(std::fs::read_to_string(file).unwrap(), "out err\nout err\n");
}

#[tokio::test]
async fn what_is_no_fifo_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let paths = StdioPaths { stdout: file.to_str().unwrap().to_owned(), ..StdioPaths::default() };

    assert!(matches!(opened(&paths).await, Err(StdioError::NotFifo { .. })));
}

#[tokio::test]
async fn a_logging_program_that_is_none_is_refused() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.to_str().unwrap(), "/nonexistent/logger"] {
        let stdout = format!("binary://{path}");
        let paths = StdioPaths { stdout, ..StdioPaths::default() };

        let error = opened(&paths).await.map(drop).unwrap_err();
        assert!(matches!(error, StdioError::Logger { .. }), "{path}: {error}");
    }
}

fn on_terminal(stdin: String, stdout: String) -> StdioPaths {
    StdioPaths { stdin, stdout, stderr: String::new(), terminal: true }
}

#[tokio::test]
async fn a_terminal_carries_input_and_output_and_ends_with_the_process() {
    use rustix::termios::isatty;
    let dir = TempDir::new().unwrap();
    let (stdin, stdout) = (fifo(&dir, "in"), fifo(&dir, "out"));
    let (task, held) = opened(&on_terminal(stdin.clone(), stdout.clone())).await.unwrap();
    assert!(isatty(&task.stdin) && isatty(&task.stdout) && isatty(&task.stderr));
    let reading = tokio::task::spawn_blocking(move || std::fs::read_to_string(stdout).unwrap());

    apart(move || {
        OpenOptions::new().write(true).open(stdin).unwrap().write_all(b"typed\n").unwrap()
    })
    .await;
    let TaskStdio { stdin, stdout, stderr } = task;
    drop(stderr);
    apart(move || {
        let mut typed = [0; 6];
        File::from(stdin).read_exact(&mut typed).unwrap();
        File::from(stdout).write_all(b"said\n").unwrap();
        assert_eq!(&typed, b"typed\n");
    })
    .await;
    held.finish().await;

    // Echoed, and every line's end as a terminal has it.
    let text = tokio::time::timeout(HANG, reading).await.unwrap().unwrap();
    assert_eq!(text, "typed\r\nsaid\r\n");
}

#[tokio::test]
async fn a_terminal_has_the_size_that_it_is_given() {
    use rustix::termios::tcgetwinsize;
    let dir = TempDir::new().unwrap();
    let paths = on_terminal(String::new(), fifo(&dir, "out"));
    let size = WindowSize { rows: 24, columns: 80 };
    let (task, held) = open(&paths, OWNER, Some(size)).await.unwrap();
    let seen = || {
        let size = tcgetwinsize(&task.stdin).unwrap();
        (size.ws_row, size.ws_col)
    };
    assert_eq!(seen(), (24, 80));

    held.resize(50, 100_000).unwrap();

    assert_eq!(seen(), (50, u16::MAX));
}

#[tokio::test]
async fn what_has_no_terminal_is_not_resized() {
    let (_task, held) = opened(&StdioPaths::default()).await.unwrap();

    assert!(matches!(held.resize(1, 1), Err(StdioError::NoTerminal)));
}
