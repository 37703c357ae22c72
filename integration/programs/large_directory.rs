//! Lists its directory /data and tells how many names there are, and a sum over them in any order.

fn main() -> std::io::Result<()> {
    let (mut count, mut sum) = (0_u32, 0_u32);
    for entry in std::fs::read_dir("/data")? {
        let name = entry?.file_name();
        let bytes = name.to_str().expect("a name in ASCII").bytes();
        let hash = bytes.fold(2_166_136_261_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(16_777_619)
        });
        count += 1;
        sum = sum.wrapping_add(hash);
    }
    println!("{count} names, {sum:08x}");
    Ok(())
}
