//! What touches a live machine. So far the lab: a whole fabric in network namespaces of this machine, forwarding with
//! the emitted artifacts, and real packets sent through it.

pub mod lab;
