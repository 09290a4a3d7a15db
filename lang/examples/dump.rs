fn main() {
    let path = std::env::args().nth(1).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let t = std::time::Instant::now();
    let p = partywall_lang::parse_bytes(partywall_lang::span::FileId(0), &bytes);
    let dt = t.elapsed();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut s = partywall_lang::source::Sources::new();
    s.add(path, text);
    for d in p.diagnostics.iter().take(40) {
        let (a, b) = s.range(d.span);
        println!("{}:{}-{}:{} {} {} | {} | {:?}", a.line, a.column, b.line, b.column, d.code, d.message, d.label, d.help);
    }
    println!("{} items {} diags {:?}", p.file.items.len(), p.diagnostics.len(), dt);
    if std::env::args().nth(2).is_some() { println!("{:#?}", p.file); }
}
