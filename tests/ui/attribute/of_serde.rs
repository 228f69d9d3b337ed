#![deny(warnings)]

use serde::{Deserialize, Serialize};
use session_runtime::Databag;

#[derive(Databag, Serialize, Deserialize)]
struct Shop {
    #[serde(skip)]
    scratch: u32,
    // These do no harm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(rename = "c")]
    #[databag(rename = "c")]
    count: u32,
    #[allow(deprecated)]
    #[serde(skip)]
    internal: u32,
}

fn main() {}
