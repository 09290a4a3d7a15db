//! The reserved words.

macro_rules! keywords {
    ($($name:ident = $text:literal,)*) => {
        /// A reserved word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kw { $(#[doc = $text] $name,)* }

        impl Kw {
            /// Every reserved word.
            pub const ALL: &'static [Kw] = &[$(Kw::$name,)*];

            /// The word as written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Kw::$name => $text,)* }
            }

            /// The reserved word with this text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Kw::$name),)*
                    _ => None,
                }
            }
        }
    };
}

keywords! {
    Affinity = "affinity",
    Allow = "allow",
    Allowing = "allowing",
    Always = "always",
    Any = "any",
    As = "as",
    At = "at",
    Attach = "attach",
    Because = "because",
    By = "by",
    Clients = "clients",
    Delegate = "delegate",
    Deny = "deny",
    Dev = "dev",
    Direct = "direct",
    Drop = "drop",
    Encap = "encap",
    Endpoint = "endpoint",
    Except = "except",
    Expires = "expires",
    Expose = "expose",
    Extend = "extend",
    External = "external",
    Fabric = "fabric",
    Family = "family",
    Flow = "flow",
    For = "for",
    From = "from",
    Gateway = "gateway",
    Geneve = "geneve",
    Group = "group",
    Icmp = "icmp",
    Icmp6 = "icmp6",
    Id = "id",
    In = "in",
    Instances = "instances",
    Ip = "ip",
    Ipv4 = "ipv4",
    Ipv6 = "ipv6",
    Is = "is",
    Isolate = "isolate",
    Joins = "joins",
    Log = "log",
    Mac = "mac",
    Masquerade = "masquerade",
    Mtu = "mtu",
    Never = "never",
    NextHop = "next-hop",
    Node = "node",
    On = "on",
    OnFailure = "on-failure",
    Overrides = "overrides",
    Packet = "packet",
    Pass = "pass",
    Policy = "policy",
    Port = "port",
    Precedence = "precedence",
    Proto = "proto",
    Rehash = "rehash",
    Route = "route",
    Router = "router",
    SameTenant = "same-tenant",
    Sctp = "sctp",
    Segment = "segment",
    Service = "service",
    Some = "some",
    Source = "source",
    Stateful = "stateful",
    Stateless = "stateless",
    StatelessReplies = "stateless-replies",
    Symmetric = "symmetric",
    Tagged = "tagged",
    Tags = "tags",
    Tcp = "tcp",
    Tenant = "tenant",
    Test = "test",
    To = "to",
    Transitively = "transitively",
    Udp = "udp",
    Underlay = "underlay",
    UnknownVni = "unknown-vni",
    Via = "via",
    Vni = "vni",
    Vtep = "vtep",
    Vxlan = "vxlan",
}

impl Kw {
    /// Whether a top-level declaration begins with this word.
    #[must_use]
    pub fn starts_declaration(self) -> bool {
        matches!(
            self,
            Self::Fabric
                | Self::Node
                | Self::External
                | Self::Service
                | Self::Group
                | Self::Tenant
                | Self::Extend
                | Self::Gateway
                | Self::Endpoint
                | Self::Policy
                | Self::Isolate
                | Self::Test
        )
    }
}
