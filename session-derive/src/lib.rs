//! The derive macro of Databag.

use proc_macro::TokenStream;

/// Makes a struct a session.
#[proc_macro_derive(Databag, attributes(databag))]
pub fn derive_databag(_input: TokenStream) -> TokenStream {
    TokenStream::new()
}
