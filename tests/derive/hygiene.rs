//! Generated code does not depend on its surroundings: on the prelude, on names in scope, or on lint levels.

/// The bag of a library with strict lints.
#[deny(missing_docs, unused, warnings, clippy::all, clippy::pedantic)]
pub mod under_strict_lints {
    use std::collections::{BTreeMap, HashMap};
    use std::net::IpAddr;

    use session_runtime::Databag;

    mod hex {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
            format!("{value:x}").serialize(serializer)
        }

        pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
            let text = String::deserialize(deserializer)?;
            u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
        }
    }

    /// A value of a column.
    #[derive(Debug, session_runtime::ColumnValue)]
    #[column(rename_all = "lowercase")]
    pub enum Plan {
        /// Costs nothing.
        Free,
        /// Not sold any more.
        #[deprecated]
        #[column(rename = "gold")]
        Golden,
    }

    /// A bag that uses everything.
    #[derive(Databag)]
    #[databag(codec = "json", rename_all = "camelCase", max_per_user = 3)]
    pub struct Published {
        #[databag(user_id)]
        account: Option<String>,
        #[databag(ip_addr, bind = "prefix")]
        address: Option<IpAddr>,
        #[databag(column, index)]
        tenant: Option<String>,
        #[databag(flash, keep_on_logout)]
        notice: Option<String>,
        #[databag(secret, with = hex)]
        pin: u128,
        #[databag(from = u8, reset_on_login)]
        visits: u32,
        #[databag(skip)]
        seen: bool,
        #[deprecated]
        to_be_removed: u32,
        is_open: bool,
        into_cart: BTreeMap<String, u32>,
        views: HashMap<String, Vec<u32>>,
    }
}

/// The prelude is not in scope, and some of its names mean something else.
mod without_a_prelude {
    #![no_implicit_prelude]

    struct Result;
    struct Some;
    struct Default;
    struct String;
    struct Option;
    struct Vec;
    struct Box;
    struct Into;

    #[derive(::session_runtime::ColumnValue)]
    enum Plan {
        Free,
        Some,
        Default,
    }

    #[derive(::session_runtime::Databag)]
    #[databag(max_per_user = 1, domain = "example.com", cookie = "__Secure-shop")]
    struct Bare {
        #[databag(user_id)]
        account: ::std::option::Option<::std::string::String>,
        #[databag(ip_addr, blind)]
        address: ::std::option::Option<::std::net::IpAddr>,
        #[databag(column, blind)]
        tenant: ::std::option::Option<i64>,
        #[databag(secret)]
        pin: u32,
        cart: ::std::collections::HashMap<u32, u32>,
        names: ::std::vec::Vec<::std::string::String>,
        choice: ::std::option::Option<::std::vec::Vec<u8>>,
    }

    #[test]
    fn a_bag_needs_no_prelude() {
        let mut bag = <Bare as ::session_runtime::Databag>::defaults();
        bag.set_account("ada");
        ::std::assert_eq!(bag.account(), ::std::option::Option::Some("ada"));
        ::std::assert_eq!(bag.address(), ::std::option::Option::None);
        for plan in [Plan::Free, Plan::Some, Plan::Default] {
            let _ = ::session_runtime::ColumnValue::to_value(&plan);
        }
        let _ = (Result, Some, Default, String, Option, Vec, Box, Into);
    }
}

mod with_odd_field_names {
    use session_runtime::Databag;

    #[derive(Databag)]
    #[allow(non_snake_case)]
    struct Odd {
        self_: u32,
        r#type: Option<String>,
        Some: u32,
        session: u32,
        field: u32,
        fields: u32,
        value: Option<u32>,
        defaults: u32,
        encode: u32,
        p: u32,
    }

    #[test]
    fn a_field_can_have_any_name() {
        let mut bag = <Odd as Databag>::defaults();
        bag.set_type("b");
        bag.set_self_(1_u32);
        bag.set_Some(2_u32);
        bag.set_value(3_u32);
        bag.type_mut().as_mut().expect("it was set").push('!');
        assert_eq!(bag.r#type(), Some("b!"));
        assert_eq!((bag.self_(), bag.Some(), bag.value()), (1, 2, Some(3)));
        assert_eq!((bag.session(), bag.field(), bag.fields(), bag.p()), (0, 0, 0, 0));
        assert_eq!((bag.defaults(), bag.encode()), (0, 0));
        let names: Vec<_> = Odd::SCHEMA.fields.iter().map(|field| field.name).collect();
        assert_eq!(names[..3], ["self_", "type", "Some"]);
    }
}

mod from_a_macro {
    use session_runtime::Databag;

    macro_rules! bag {
        ($name:ident { $($field:ident: $ty:ty = $default:expr),* }, $cookie:literal) => {
            #[derive(Databag)]
            #[databag(cookie = $cookie)]
            struct $name {
                $(#[databag(default = $default)] $field: $ty,)*
                #[databag(user_id)]
                account: Option<u64>,
            }
        };
    }

    bag!(Generated { cart: Vec<u32> = vec![1], theme: Option<String> = None }, "shop");

    #[test]
    fn a_macro_can_write_a_bag() {
        let mut bag = Generated::defaults();
        bag.set_theme("dark");
        bag.set_account(5_u64);
        assert_eq!((bag.cart(), bag.theme(), bag.account()), (&[1][..], Some("dark"), Some(5)));
        assert_eq!(Generated::SCHEMA.cookie.name, "shop");
    }
}

/// Other types have names that the derive knows.
mod with_shadowed_types {
    use session_runtime::Databag;

    #[derive(Default, Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    struct String(u8);

    #[derive(Default, Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    struct BTreeMap(u8);

    #[allow(dead_code)]
    type Result = u8;

    #[derive(Databag)]
    #[databag(accessors = false)]
    struct Shadowed {
        name: String,
        names: Option<std::string::String>,
        cart: BTreeMap,
        #[databag(merge = "last")]
        last: Option<String>,
        outcome: Result,
    }

    #[test]
    fn a_type_with_a_known_name_may_be_another_type() {
        let bag = Shadowed::defaults();
        assert_eq!((bag.name, bag.names, bag.cart), (String(0), None, BTreeMap(0)));
        assert_eq!((bag.last, bag.outcome), (None, 0));
    }
}

/// Fields and variants under `cfg`.
mod with_cfg {
    use session_runtime::{ColumnValue, Databag};

    #[derive(Databag)]
    struct Gated {
        #[cfg(test)]
        #[databag(column)]
        there: u32,
        #[cfg(not(test))]
        #[databag(column, frobnicate)]
        absent: Unknown,
        #[cfg_attr(test, databag(rename = "kept"))]
        renamed: u32,
    }

    #[derive(ColumnValue)]
    enum Plan {
        #[cfg(test)]
        Free,
        #[cfg(not(test))]
        Free(Unknown),
    }

    #[test]
    fn fields_and_variants_that_are_compiled_out_are_not_checked() {
        let names: Vec<_> = Gated::SCHEMA.fields.iter().map(|field| field.name).collect();
        assert_eq!(names, ["there", "kept"]);
        assert_eq!((Gated::defaults().there(), Gated::defaults().renamed()), (0, 0));
        let _ = (Gated::THERE.eq(1_u32), Plan::Free.to_value());
    }
}

mod in_a_function {
    use session_runtime::Databag;

    #[test]
    fn a_bag_can_be_local() {
        #[derive(Default, serde::Serialize, serde::Deserialize)]
        struct Theme;

        #[derive(Databag)]
        struct Local {
            theme: Theme,
            #[databag(column)]
            tenant: Option<String>,
        }

        let mut bag = Local::defaults();
        bag.set_tenant("acme");
        let _ = (bag.theme(), Local::TENANT.eq("acme"));
        assert_eq!(bag.tenant(), Some("acme"));
    }
}

mod with_the_crate_renamed {
    mod facade {
        pub(super) use session_runtime as databag;
    }

    use facade::databag::Databag;

    #[derive(facade::databag::ColumnValue)]
    #[column(crate = facade::databag)]
    enum Plan {
        Free,
    }

    #[derive(Databag)]
    #[databag(crate = facade::databag)]
    struct ByPath {
        cart: u32,
    }

    #[derive(Databag)]
    #[databag(crate = "facade::databag")]
    struct ByString {
        cart: u32,
    }

    #[test]
    fn the_crate_can_be_reached_by_another_path() {
        assert_eq!((ByPath::defaults().cart(), ByString::defaults().cart()), (0, 0));
        let _ = facade::databag::ColumnValue::to_value(&Plan::Free);
    }
}

mod with_parameters {
    use std::collections::HashMap;

    use session_runtime::{Databag, HasUser};

    #[derive(Databag)]
    struct Generic<T, U, const N: usize>
    where
        T: Clone,
    {
        #[databag(user_id)]
        account: Option<U>,
        #[databag(column)]
        tenant: Option<U>,
        #[databag(secret)]
        items: Vec<T>,
        #[databag(default = [0; N])]
        numbers: HashMapOf<N>,
        lookup: HashMap<String, T>,
    }

    type HashMapOf<const N: usize> = [u8; N];

    #[test]
    fn a_bag_can_have_parameters() {
        let mut bag = Generic::<u8, i64, 4>::defaults();
        bag.items_mut().push(1);
        bag.set_user(Some(7));
        assert_eq!((bag.items(), bag.numbers(), bag.user()), (&[1][..], &[0; 4], Some(&7)));
        let _ = Generic::<u8, i64, 4>::TENANT.eq(1_i64);
    }
}
