//! Writes the code of a valid bag. It calls the runtime wherever it can, because code there is type-checked once
//! and can be stepped through.

mod accessors;
mod databag;
mod debug;
mod merge;
mod roles;
mod schema;
mod tokens;

use proc_macro2::TokenStream;
use quote::quote;

pub(crate) use self::accessors::{accessors, constants, read_optional};
use self::databag::{databag, with_types};
use self::debug::debug;
use self::roles::{has_ip, has_user};
use self::tokens::bounded;
pub(crate) use self::tokens::{p, private};
use crate::model::Bag;

/// Writes everything that a bag needs.
pub(crate) fn expand(bag: &Bag<'_>) -> TokenStream {
    let private = private(bag.input);
    let with_types = with_types(bag);
    let databag = databag(bag);
    let has_user = has_user(bag);
    let has_ip = has_ip(bag);
    let debug = debug(bag);
    let accessors = accessors(bag.input);
    let constants = constants(bag.input, &bounded(bag));
    quote! {
        const _: () = {
            #private
            #with_types
            #databag
            #has_user
            #has_ip
            #debug
            #accessors
            #constants
        };
    }
}
