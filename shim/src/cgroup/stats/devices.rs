//! The counters of block devices and of huge pages.
//!
//! A VMM reads and writes the container's files, so its control group has the first; the second are those of
//! whatever page sizes the kernel has.

use std::fs;
use std::path::Path;

use containerd_shim_protos::{cgroups::metrics as v1, cgroups_v2::metrics as v2};

use super::{keyed, number, text};

/// v2: `io.stat`, one device a line: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
pub(super) fn io_v2(dir: &Path) -> v2::IOStat {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let mut entry = v2::IOEntry::new();
        (entry.major, entry.minor) = device(words.next()?)?;
        for word in words {
            let Some((key, value)) = word.split_once('=') else { continue };
            let Ok(value) = value.parse() else { continue };
            match key {
                "rbytes" => entry.rbytes = value,
                "wbytes" => entry.wbytes = value,
                "rios" => entry.rios = value,
                "wios" => entry.wios = value,
                _not_told => {}
            }
        }
        Some(entry)
    };
    let mut io = v2::IOStat::new();
    io.usage = text(dir, "io.stat").lines().filter_map(entry).collect();
    io
}

/// v1: bytes and operations of the throttling policy, which counts whatever scheduler a device has:
/// `8:0 Read 4096`, and a last line `Total 4096`.
pub(super) fn io_v1(dir: &Path) -> v1::BlkIOStat {
    let entries = |file: &str| {
        let entry = |line: &str| {
            let mut words = line.split_whitespace();
            let mut entry = v1::BlkIOEntry::new();
            (entry.major, entry.minor) = device(words.next()?)?;
            entry.op = words.next()?.to_owned();
            entry.value = words.next()?.parse().ok()?;
            Some(entry)
        };
        text(dir, file).lines().filter_map(entry).collect()
    };
    let mut io = v1::BlkIOStat::new();
    io.io_service_bytes_recursive = entries("blkio.throttle.io_service_bytes_recursive");
    io.io_serviced_recursive = entries("blkio.throttle.io_serviced_recursive");
    io
}

fn device(word: &str) -> Option<(u64, u64)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// v2: huge pages of each size, in bytes.
pub(super) fn huge_pages_v2(dir: &Path) -> Vec<v2::HugeTlbStat> {
    let of_size = |size: String| {
        let mut stat = v2::HugeTlbStat::new();
        stat.current = number(dir, &format!("hugetlb.{size}.current"));
        stat.max = number(dir, &format!("hugetlb.{size}.max"));
        let events = keyed(dir, &format!("hugetlb.{size}.events"));
        stat.failcnt = events.get("max").copied().unwrap_or(0);
        stat.pagesize = size;
        stat
    };
    sizes(dir, ".current").into_iter().map(of_size).collect()
}

/// v1: as v2, with the greatest usage for a maximum.
pub(super) fn huge_pages_v1(dir: &Path) -> Vec<v1::HugetlbStat> {
    let of_size = |size: String| {
        let mut stat = v1::HugetlbStat::new();
        stat.usage = number(dir, &format!("hugetlb.{size}.usage_in_bytes"));
        stat.max = number(dir, &format!("hugetlb.{size}.max_usage_in_bytes"));
        stat.failcnt = number(dir, &format!("hugetlb.{size}.failcnt"));
        stat.pagesize = size;
        stat
    };
    sizes(dir, ".usage_in_bytes").into_iter().map(of_size).collect()
}

/// The page sizes for which there is a file `hugetlb.SIZE` + `suffix`. Reservations have files of their own,
/// `hugetlb.SIZE.rsvd` + `suffix`, and are counted apart.
fn sizes(dir: &Path, suffix: &str) -> Vec<String> {
    let size = |name: String| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut sizes: Vec<String> =
        entries.filter_map(|entry| size(entry.file_name().into_string().ok()?)).collect();
    sizes.sort();
    sizes
}
