//! The guide: a page for each question, in the order in which a newcomer asks them.
//!
//! | question | page |
//! |---|---|
//! | How does a colleague's DSPy program become an HTTP endpoint in Rust? | [`first_program`] |
//! | Something of the set-up fails: what does the message mean? | [`setup_errors`] |
//! | Does Python run in this process or in worker processes? | [`hosts`] |
//! | Which limits does a call need, and in which order? | [`limits`] |
//! | What stops when a limit passes, and what cannot be stopped? | [`what_stops`] |
//! | How does an answer stream to a browser? | [`streaming`] |
//! | How does a program call Rust, and search documents? | [`tools`] |
//! | How do several customers share a program, each with a key and a budget? | [`tenants`] |
//! | What did a call cost, and how is the next one limited? | [`costs`] |
//! | Does a program ask the LM the same as in a notebook? | [`same_program`] |
//! | How are limits tested without waiting for them? | [`testing`] |
//! | How does existing code move here, from PyO3 or from FastAPI? | [`migrate`] |
//! | How is a service deployed, in Docker, Kubernetes, behind a proxy? | [`deploy`] |
//! | What is to be looked at when something is slow or fails? | [`operate`] |
//! | What does the configuration of nginx and HAProxy need? | [`proxies`] |
//! | Which layer does the job of which pattern for futures? | [`patterns`] |
//! | How does it compare with what else could be used? | [`comparison`] |
//! | What is proved, and by which command? | [`reliability`] |
//! | How is the crate built? | [`architecture`] |

#[doc = include_str!("docs/first_program.md")]
pub mod first_program {}

#[doc = include_str!("docs/setup_errors.md")]
pub mod setup_errors {}

#[doc = include_str!("docs/hosts.md")]
pub mod hosts {}

#[doc = include_str!("docs/limits.md")]
pub mod limits {}

#[doc = include_str!("docs/what_stops.md")]
pub mod what_stops {}

#[doc = include_str!("docs/streaming.md")]
pub mod streaming {}

#[doc = include_str!("docs/tools.md")]
pub mod tools {}

#[doc = include_str!("docs/tenants.md")]
pub mod tenants {}

#[doc = include_str!("docs/costs.md")]
pub mod costs {}

#[doc = include_str!("docs/same_program.md")]
pub mod same_program {}

#[doc = include_str!("docs/testing.md")]
pub mod testing {}

#[doc = include_str!("docs/migrate.md")]
pub mod migrate {}

#[doc = include_str!("docs/deploy.md")]
pub mod deploy {}

#[doc = include_str!("docs/operate.md")]
pub mod operate {}

#[doc = include_str!("docs/proxies.md")]
pub mod proxies {}

#[doc = include_str!("docs/patterns.md")]
pub mod patterns {}

#[doc = include_str!("docs/comparison.md")]
pub mod comparison {}

#[doc = include_str!("docs/reliability.md")]
pub mod reliability {}

#[doc = include_str!("docs/architecture.md")]
pub mod architecture {}
