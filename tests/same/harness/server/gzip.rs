//! A gzip stream of blocks that are stored as they are.

/// The most that a stored block holds.
const BLOCK: usize = 0xffff;

pub(super) fn stored(data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks = data.len().div_ceil(BLOCK).max(1);
    for number in 0..blocks {
        let start = number * BLOCK;
        let block = &data[start..data.len().min(start + BLOCK)];
        let length = block.len() as u16;
        stream.push(u8::from(number + 1 == blocks));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
    }
    stream.extend(crc32(data).to_le_bytes());
    stream.extend((data.len() as u32).to_le_bytes());
    stream
}

fn crc32(data: &[u8]) -> u32 {
    let crc = data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    !crc
}
