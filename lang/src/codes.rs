//! The one registry of codes. A code is never reused; each has a page `docs/codes/PWnnnn.md` that `explain`
//! prints and whose examples are executed as tests.

use crate::diag::Severity;

macro_rules! codes {
    ($($name:ident = $number:literal $severity:ident $title:literal;)*) => {
        /// A finding's code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Code { $(#[doc = $title] $name = $number,)* }

        impl Code {
            /// Every code, ascending.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The severity that a finding has unless it says otherwise.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Code::$name => Severity::$severity,)* }
            }

            /// One line: what the code means.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* }
            }

            /// The page that `explain` prints, Markdown.
            #[must_use]
            pub fn page(self) -> &'static str {
                match self {
                    $(Code::$name => include_str!(concat!("../../docs/codes/", stringify!($name), ".md")),)*
                }
            }

            /// `PW0401`
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => stringify!($name),)* }
            }
        }
    };
}

codes! {
    PW0001 = 1 Error "unexpected token";
    PW0002 = 2 Error "bad token: a literal or character that is none of the language's";
    PW0003 = 3 Error "unterminated or malformed string";
    PW0004 = 4 Error "a clause is missing";
    PW0005 = 5 Error "a clause stands twice";
    PW0006 = 6 Error "a number or literal out of its range";
    PW0007 = 7 Error "a file is not UTF-8, or holds a NUL byte";
    PW0008 = 8 Error "nested too deeply";
    PW0009 = 9 Error "something that may not stand here";
    PW0010 = 10 Error "too many syntax errors in one file";
    PW0011 = 11 Warning "a doc comment with nothing to attach to";
    PW0012 = 12 Error "a malformed suppression comment";
    PW0101 = 101 Error "unknown name";
    PW0102 = 102 Error "declared twice";
    PW0103 = 103 Error "a name of the wrong kind";
    PW0104 = 104 Error "a group defined through itself";
    PW0105 = 105 Error "`overrides` forms a cycle";
    PW0106 = 106 Error "unknown or forbidden tier, or `overrides` across tiers or owners";
    PW0201 = 201 Error "VNI outside 1..16777215";
    PW0202 = 202 Error "one VNI on two segments";
    PW0203 = 203 Error "segments of one tenant overlap";
    PW0204 = 204 Error "prefix with host bits set";
    PW0205 = 205 Error "endpoint address outside its segment";
    PW0206 = 206 Error "one address, MAC or device used twice";
    PW0207 = 207 Error "VTEP address used twice, or of the wrong family";
    PW0208 = 208 Error "segment MTU over the underlay's budget";
    PW0209 = 209 Error "tenant ids collide";
    PW0210 = 210 Error "an endpoint on a gateway node";
    PW0301 = 301 Error "overlapping spaces and no translation";
    PW0302 = 302 Error "a prefix captures addresses of others";
    PW0303 = 303 Error "two meanings for one prefix in one space";
    PW0304 = 304 Error "forwarding loop";
    PW0305 = 305 Error "one presented prefix through two gateways";
    PW0306 = 306 Error "`as` or `clients as` does not pair up with its set";
    PW0307 = 307 Error "black hole";
    PW0308 = 308 Error "an underlay address inside the overlay";
    PW0401 = 401 Error "conflict: unordered policies of one tier disagree";
    PW0402 = 402 Warning "shadowed rule";
    PW0403 = 403 Warning "redundant rule";
    PW0404 = 404 Warning "overruled by rules of another owner";
    PW0405 = 405 Warning "matches nothing";
    PW0406 = 406 Warning "rule expires soon or has expired";
    PW0407 = 407 Warning "definition that nothing uses";
    PW0501 = 501 Error "a path between two tenants that passes no gateway";
    PW0502 = 502 Error "`isolate` violated by a flow";
    PW0503 = 503 Error "`isolate … transitively` violated by a chain";
    PW0504 = 504 Error "a tenant's policy or exposure concerns what is not its own";
    PW0505 = 505 Error "`via` that no exposure or gateway can honour";
    PW0506 = 506 Error "a file holds what its folder's owner may not write";
    PW0601 = 601 Error "asymmetric path";
    PW0602 = 602 Error "stateful gateway with an affinity that splits connections";
    PW0603 = 603 Error "replies cannot come back";
    PW0604 = 604 Error "a connection that passes one gateway twice";
    PW0701 = 701 Error "a test fails";
    PW0801 = 801 Error "a target cannot express a construct";
    PW0802 = 802 Error "emitted configuration differs from the policy";
    PW0803 = 803 Error "a target's table is too small";
    PW0901 = 901 Error "undecided within the budget";
    PW0902 = 902 Warning "a suppression that suppresses nothing";
}

impl Code {
    /// The code with this text (`PW0401`), if there is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }

    /// The docs page's address within the repository.
    #[must_use]
    pub fn page_path(self) -> String {
        format!("docs/codes/{}.md", self.as_str())
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
