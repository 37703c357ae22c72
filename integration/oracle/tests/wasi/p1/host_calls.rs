//! Host calls that an operation of preview 1 costs: each is an exit of a micro-VM.

use oracle::Wasi;

use super::{DATA, P1, PATH, RESULT, ROOT, VECTOR, seeing, vector};

/// Rights to read and to write.
const READ_WRITE: u64 = 1 << 1 | 1 << 6 | 1 << 14;

/// A file of this size is there as `file`.
const FILE_BYTES: usize = 4 << 20;
/// Files beside it.
const FILES: usize = 50;

/// A program that has `file` open as 4 and its clock sampled.
fn program(directory: &std::path::Path) -> P1 {
    std::fs::write(directory.join("file"), vec![7; FILE_BYTES]).unwrap();
    for number in 0..FILES {
        std::fs::write(directory.join(format!("{number}")), "").unwrap();
    }
    let mut grants = seeing(directory);
    grants.args = vec!["program".to_owned(), "argument".to_owned()];
    grants.env = vec![("KEY".to_owned(), "VALUE".to_owned())];
    let mut program = P1::start_with(Wasi::Ours, &grants);
    assert_eq!(program.open(ROOT, b"file", 0, READ_WRITE, 0), Ok(4));
    assert_eq!(program.errno("clock_time_get", &[1, 0, RESULT.into()]), 0);
    program
}

/// An operation: what it is called, most host calls that it may cost, the function and its arguments.
type Row = (&'static str, usize, &'static str, Vec<u64>);

/// One after the other, by a program as [`program`] leaves it. A buffer of 64 KiB is at `VECTOR`, a
/// path to `file` at `PATH`, and to nothing behind it, a subscription to the clock at `DATA`.
fn rows() -> Vec<Row> {
    let (path, vector, result, data) =
        (u64::from(PATH), u64::from(VECTOR), u64::from(RESULT), u64::from(DATA));
    let new = path + 8;
    vec![
        ("arguments' sizes", 0, "args_sizes_get", vec![result, result + 4]),
        ("arguments", 0, "args_get", vec![result, data]),
        ("environment's sizes", 0, "environ_sizes_get", vec![result, result + 4]),
        ("environment", 0, "environ_get", vec![result, data]),
        ("resolution of a clock", 0, "clock_res_get", vec![0, result]),
        ("wall clock", 0, "clock_time_get", vec![0, 0, result]),
        ("monotonic clock", 0, "clock_time_get", vec![1, 0, result]),
        ("16 random bytes", 0, "random_get", vec![data, 16]),
        ("1 MiB of random bytes", 0, "random_get", vec![data, 1 << 20]),
        ("yield", 0, "sched_yield", vec![]),
        ("write to standard output", 1, "fd_write", vec![1, vector, 1, result]),
        ("describe a descriptor", 0, "fd_fdstat_get", vec![4, result]),
        ("set a descriptor's flags", 0, "fd_fdstat_set_flags", vec![4, 0]),
        ("preopened directory", 0, "fd_prestat_get", vec![3, result]),
        ("preopened directory's name", 0, "fd_prestat_dir_name", vec![3, data, 1]),
        ("describe an open file", 1, "fd_filestat_get", vec![4, result]),
        ("read 64 KiB of a file", 1, "fd_read", vec![4, vector, 1, result]),
        ("read the next 64 KiB", 1, "fd_read", vec![4, vector, 1, result]),
        ("read 64 KiB at a place", 1, "fd_pread", vec![4, vector, 1, 0, result]),
        ("write 64 KiB to a file", 1, "fd_write", vec![4, vector, 1, result]),
        ("write 64 KiB at a place", 1, "fd_pwrite", vec![4, vector, 1, 0, result]),
        ("seek to a place", 0, "fd_seek", vec![4, 5, 0, result]),
        ("seek from here", 0, "fd_seek", vec![4, 5, 1, result]),
        ("seek from the end", 1, "fd_seek", vec![4, 0, 2, result]),
        ("tell the place", 0, "fd_tell", vec![4, result]),
        ("advise", 1, "fd_advise", vec![4, 0, 0, 1]),
        ("allocate", 1, "fd_allocate", vec![4, 0, 4096]),
        ("sync data", 1, "fd_datasync", vec![4]),
        ("sync", 1, "fd_sync", vec![4]),
        ("set a size", 1, "fd_filestat_set_size", vec![4, FILE_BYTES as u64]),
        ("set times", 1, "fd_filestat_set_times", vec![4, 1, 1, 5]),
        ("append from here on", 0, "fd_fdstat_set_flags", vec![4, 1]),
        ("append 64 KiB", 1, "fd_write", vec![4, vector, 1, result]),
        ("tell the place after appending", 0, "fd_tell", vec![4, result]),
        // The entries, their end, and the directory itself for "." and "..".
        ("list 50 entries", 3, "fd_readdir", vec![3, data, 0x1_0000, 0, result]),
        ("describe a path", 1, "path_filestat_get", vec![3, 1, path, 4, result]),
        ("set a path's times", 1, "path_filestat_set_times", vec![3, 1, path, 4, 1, 1, 5]),
        ("open", 1, "path_open", vec![3, 1, path, 4, 0, READ_WRITE, 0, 0, result]),
        ("renumber: one of two is closed", 1, "fd_renumber", vec![5, 4]),
        ("make a directory", 1, "path_create_directory", vec![3, new, 3]),
        ("remove a directory", 1, "path_remove_directory", vec![3, new, 3]),
        ("make a symbolic link", 1, "path_symlink", vec![path, 4, 3, new, 3]),
        ("read a symbolic link", 1, "path_readlink", vec![3, new, 3, data, 100, result]),
        ("remove a link", 1, "path_unlink_file", vec![3, new, 3]),
        ("make a hard link", 1, "path_link", vec![3, 0, path, 4, 3, new, 3]),
        ("rename", 1, "path_rename", vec![3, new, 3, 3, new, 2]),
        ("sleep", 1, "poll_oneoff", vec![data, result, 1, result + 64]),
        ("close", 1, "fd_close", vec![4]),
    ]
}

#[test]
fn no_operation_costs_more_host_calls_than_its_row_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = program(directory.path());
    // A subscription to the monotonic clock, 1 ms from the call on.
    let mut subscription = [0; 48];
    subscription[16] = 1;
    subscription[24..32].copy_from_slice(&1_000_000_u64.to_le_bytes());
    let buffer = vector(64 << 10);
    let pokes =
        [(PATH, &b"file"[..]), (PATH + 8, b"new"), (VECTOR, &buffer), (DATA, &subscription)];
    let mut dearer = Vec::new();
    for (operation, most, function, arguments) in rows() {
        // A sample of the clock lasts a second, whatever the rows before have taken.
        assert_eq!(program.errno("clock_time_get", &[1, 0, RESULT.into()]), 0);
        let _ = program.0.calls();
        let (errno, _) = program.call_with(&pokes, function, &arguments, (0, 0)).unwrap();
        let calls = program.0.calls();
        assert_eq!(errno, 0, "{operation}");
        if calls.len() > most {
            dearer.push(format!("{operation}: {calls:?}, and not {most}"));
        }
    }
    assert!(dearer.is_empty(), "{}", dearer.join("\n"));
}

#[test]
fn a_read_of_standard_input_that_has_data_is_one_host_call() {
    const LENGTH: usize = 2 << 20;
    let directory = tempfile::tempdir().unwrap();
    let mut program = program(directory.path());
    let number = program.0.interpreter.number("fd_read");
    let arguments = [0, VECTOR.into(), 1, RESULT.into()];
    // A frame is a few hundred bytes, so what reads more is the read of the test.
    let buffer = [DATA.to_le_bytes(), u32::try_from(LENGTH).unwrap().to_le_bytes()].concat();
    let commands = [
        crate::session::Command::Poke(VECTOR, &buffer),
        crate::session::Command::Call(number, &arguments),
        crate::session::Command::Peek(DATA, 5),
    ];
    let _ = program.0.calls();
    let answer = program.0.exchange(&commands, b"input").unwrap();
    assert_eq!(answer, [&[0; 8][..], b"input"].concat());
    assert_eq!(program.0.calls().len(), 1);
}

#[test]
fn waiting_for_a_descriptor_or_a_time_is_one_host_call() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = program(directory.path());
    // Standard input, which has nothing, and 1 ms of the clock.
    let mut subscriptions = [0; 96];
    subscriptions[8] = 1;
    subscriptions[48 + 16] = 1;
    subscriptions[48 + 24..48 + 32].copy_from_slice(&1_000_000_u64.to_le_bytes());
    let arguments = [DATA.into(), u64::from(RESULT), 2, u64::from(RESULT) + 128];
    assert_eq!(program.errno("clock_time_get", &[1, 0, RESULT.into()]), 0);
    let _ = program.0.calls();
    let pokes = [(DATA, &subscriptions[..])];
    let (errno, count) =
        program.call_with(&pokes, "poll_oneoff", &arguments, (RESULT + 128, 4)).unwrap();
    assert_eq!((errno, count), (0, vec![1, 0, 0, 0]));
    assert_eq!(program.0.calls().len(), 1);
}

#[test]
fn clocks_are_asked_for_once_in_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let mut program = program(directory.path());
    let _ = program.0.calls();
    let since = std::time::Instant::now();
    for _ in 0..1000 {
        assert_eq!(program.errno("clock_time_get", &[0, 0, RESULT.into()]), 0);
    }
    let most = since.elapsed().as_secs() + 2;
    assert!(program.0.calls().len() as u64 <= most, "in {:?}", since.elapsed());
}
