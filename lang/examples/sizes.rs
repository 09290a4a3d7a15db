use partywall_lang::ast::*;
fn main() {
    macro_rules! p { ($($t:ty),*) => { $(println!("{} {}", stringify!($t), std::mem::size_of::<$t>());)* } }
    p!(Item, Decl, Fabric, Gateway, Endpoint, Policy, Rule, Pairs, Set, SetKind, Member, MemberKind, Expose, TestClause, PacketTest, ServiceTerm, ServiceExpr, Attach, partywall_lang::tokens::Token<'static>, Vec<Name>, Isolate);
}
