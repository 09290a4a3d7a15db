fn main() {
    let path = std::env::args().nth(1).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let p = partywall_lang::parse_bytes(partywall_lang::span::FileId(0), &bytes);
    let mut s = partywall_lang::source::Sources::new();
    s.add(path, String::from_utf8_lossy(&bytes));
    let t = std::time::Instant::now();
    print!("{}", partywall_lang::render::human(&s, &p.diagnostics, false));
    print!("{}", partywall_lang::render::concise(&s, &p.diagnostics));
    eprintln!("{:?}", t.elapsed());
    if std::env::args().nth(2).is_some() { println!("{}", partywall_lang::render::json(&s, &p.diagnostics, partywall_lang::render::JsonOptions{version:"0",project:"."}).unwrap()); }
}
