fn main() {
    let text = std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap();
    let t = std::time::Instant::now();
    match partywall_lang::fmt::format(&text) {
        Ok(s) => { print!("{s}"); assert_eq!(partywall_lang::fmt::format(&s).unwrap(), s); }
        Err(d) => println!("{} errors", d.len()),
    }
    eprintln!("{:?}", t.elapsed());
}
