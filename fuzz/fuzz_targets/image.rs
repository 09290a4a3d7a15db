//! Map images of the ebpf target: whatever a file holds, it is refused, or is byte for byte what the writer makes of it.
#![no_main]

use backends::ebpf::image::Image;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // And with the digest that it has to have, or nothing behind that question would ever be asked.
    let sealed = [bytes, blake3::hash(bytes).as_bytes()].concat();
    for file in [bytes, &sealed] {
        if let Ok(image) = Image::read(file) {
            assert_eq!(image.write(), file);
        }
    }
});
