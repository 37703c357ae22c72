//! Takes as many MiB of memory as its argument says, and uses each page.

fn main() {
    let wanted: usize = std::env::args().nth(1).and_then(|it| it.parse().ok()).unwrap_or(1);
    let mut bytes = vec![0_u8; wanted << 20];
    bytes.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    let pages = bytes.iter().filter(|byte| **byte == 1).count();
    println!("{} MiB", pages >> 8);
}
