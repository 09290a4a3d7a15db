//! The structural checks, through text: every finding at its place, with its words, and none beside it.

#[cfg(test)]
mod config;
#[cfg(test)]
mod gateways;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod spaces;
#[cfg(test)]
mod support;
