//! Writes the schema: everything that `#[databag(..)]` declares, as constants.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};

use super::tokens::{assertion, stored_map};
use crate::ast::{at, inside};
use crate::model::{Bag, Bind, Columns, Cookie, Field, Lifetime, Persistence, Role, SameSite, Stored};

pub(super) fn schema(bag: &Bag<'_>, p: &Ident) -> TokenStream {
    let Bag { input: _, codec: _, name, table, columns, cookie, lifetime, max_per_user, version, fields: _ } =
        bag;
    let columns = columns_schema(columns, p);
    let cookie = cookie_schema(cookie, p);
    let Lifetime { idle, absolute, remember } = lifetime;
    let max_per_user = option(max_per_user.as_ref(), p);
    let fields = stored_map(bag, |_, field, stored| Some(field_schema(field, stored, p)));
    quote! {
        #p::Schema {
            name: #name,
            table: #table,
            columns: #columns,
            cookie: #cookie,
            idle: #p::Duration::from_millis(#idle),
            absolute: #p::Duration::from_millis(#absolute),
            remember: #p::Duration::from_millis(#remember),
            max_per_user: #max_per_user,
            version: #version,
            fields: &[#fields],
        }
    }
}

fn columns_schema(columns: &Columns, p: &Ident) -> TokenStream {
    let Columns { id, state, user_id, ip_addr, created, expiration, revision } = columns;
    quote! {
        #p::Columns {
            id: #id,
            state: #state,
            user_id: #user_id,
            ip_addr: #ip_addr,
            created: #created,
            expiration: #expiration,
            revision: #revision,
        }
    }
}

fn cookie_schema(cookie: &Cookie, p: &Ident) -> TokenStream {
    let Cookie { name, path, domain, same_site, secure, partitioned, persistence } = cookie;
    let domain = option(domain.as_ref(), p);
    let same_site = match same_site {
        SameSite::Strict => quote!(Strict),
        SameSite::Lax => quote!(Lax),
        SameSite::None => quote!(None),
    };
    let persistence = match persistence {
        Persistence::Browser => quote!(Browser),
        Persistence::Persistent => quote!(Persistent),
    };
    quote! {
        #p::CookieSchema {
            name: #name,
            path: #path,
            domain: #domain,
            same_site: #p::SameSite::#same_site,
            secure: #secure,
            partitioned: #partitioned,
            persistence: #p::Persistence::#persistence,
        }
    }
}

fn field_schema(field: &Field<'_>, stored: &Stored<'_>, p: &Ident) -> TokenStream {
    let Stored {
        name,
        aliases,
        role,
        blind,
        from: _,
        with: _,
        codec: _,
        merge: _,
        flash,
        user_agent,
        flow,
        ttl,
        keep_on_logout,
        reset_on_login,
    } = stored;
    let role = match role {
        Role::Plain => None,
        Role::User(_) => Some(quote!(User(#p::user_type::<Self>()))),
        Role::Ip(bind) => {
            let bind = match bind {
                Bind::Exact => quote!(Exact),
                Bind::Prefix => quote!(Prefix),
                Bind::Off => quote!(Off),
            };
            Some(quote!(Ip(#p::Bind::#bind)))
        }
        Role::Column { name, index } => {
            let ty = inside(field.ty, "Option").unwrap_or(field.ty);
            let ty = assertion("column_type", ty, at(ty));
            Some(quote!(Column { name: #name, ty: #ty, index: #index }))
        }
    };
    let declared = [
        (!aliases.is_empty()).then(|| quote!(aliases: &[#(#aliases),*])),
        role.map(|role| quote!(role: #p::Role::#role)),
        blind.then(|| quote!(blind: true)),
        flash.then(|| quote!(flash: true)),
        user_agent.then(|| quote!(user_agent: true)),
        flow.map(|_| quote!(flow: true)),
        ttl.map(|ttl| quote!(ttl: #p::Some(#p::Duration::from_millis(#ttl)))),
        keep_on_logout.then(|| quote!(keep_on_logout: true)),
        reset_on_login.then(|| quote!(reset_on_login: true)),
    ];
    let declared: Vec<_> = declared.into_iter().flatten().collect();
    let plain = quote!(#p::Field::plain(#name));
    if declared.is_empty() { quote!(#plain,) } else { quote!(#p::Field { #(#declared,)* ..#plain },) }
}

fn option(value: Option<&impl ToTokens>, p: &Ident) -> TokenStream {
    match value {
        Some(value) => quote!(#p::Some(#value)),
        None => quote!(#p::None),
    }
}
