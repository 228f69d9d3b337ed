//! The derive generates the schema, the accessors and the impls that the attributes describe.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use session_runtime::__private::{Comparison, Projection};
use session_runtime::schema::{Field, Role};
use session_runtime::{
    Bincode, Bind, Codec, CodecError, Column, ColumnType, ColumnValue, Databag, Framing, HasIp, HasUser,
    LoggedIn, Persistence, SameSite, Session, Value,
};

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Theme {
    Light,
    Dark,
}

impl From<bool> for Theme {
    fn from(dark: bool) -> Self {
        if dark { Self::Dark } else { Self::Light }
    }
}

#[derive(Databag)]
#[databag(table = "shop_sessions", cookie = "__Host-shop", idle = "1h30m", absolute = "14d")]
struct Shop {
    #[databag(user_id)]
    user_id: Option<i64>,
    #[databag(ip_addr)]
    ip_addr: Option<IpAddr>,
    #[databag(column, index)]
    tenant: Option<String>,
    #[databag(column = "hits")]
    visits: u32,
    #[databag(flash)]
    notice: Option<String>,
    cart: BTreeMap<String, u32>,
    #[databag(default = Theme::Dark)]
    theme: Theme,
    tags: Vec<String>,
}

#[derive(Databag)]
struct Plain {
    name: String,
}

fn field<T: Databag>(name: &str) -> &'static Field {
    T::SCHEMA.fields.iter().find(|field| field.name == name).expect("the bag has the field")
}

fn position<T: Databag>(name: &str) -> usize {
    T::SCHEMA.fields.iter().position(|field| field.name == name).expect("the bag has the field")
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    Bincode::encode(value, &mut bytes).expect("plain values encode");
    bytes
}

mod schema {
    use super::*;

    #[test]
    fn the_defaults_are_secure() {
        let schema = Plain::SCHEMA;
        assert_eq!((schema.name, schema.table), ("databag-tests/Plain", "sessions"));
        let cookie = &schema.cookie;
        assert_eq!((cookie.name, cookie.path, cookie.domain), ("__Host-session", "/", None));
        assert_eq!((cookie.secure, cookie.partitioned), (true, false));
        assert_eq!((cookie.same_site, cookie.persistence), (SameSite::Lax, Persistence::Browser));
        assert_eq!(schema.idle, Duration::from_mins(30));
        assert_eq!(schema.absolute, Duration::from_hours(12));
        assert_eq!((schema.max_per_user, schema.version), (None, 0));
    }

    #[test]
    fn the_columns_of_the_runtime_have_plain_names() {
        let columns = &Plain::SCHEMA.columns;
        assert_eq!(
            [columns.id, columns.state, columns.user_id, columns.ip_addr],
            ["id", "state", "user_id", "ip_addr"]
        );
        assert_eq!(
            [columns.created, columns.expiration, columns.revision],
            ["created", "expiration", "revision"]
        );
    }

    #[test]
    fn every_attribute_is_in_the_schema() {
        #[derive(Databag)]
        #[databag(
            name = "shop",
            table = "t",
            cookie = "__Secure-shop",
            path = "/shop",
            domain = "example.com"
        )]
        #[databag(
            same_site = "none",
            partitioned,
            persistence = "persistent",
            idle = "90s",
            absolute = "500ms1h"
        )]
        #[databag(max_per_user = 5, version = 7, columns(id = "key", revision = "rev"))]
        struct Full {
            #[databag(user_id)]
            account: Option<u64>,
        }

        let schema = Full::SCHEMA;
        assert_eq!((schema.name, schema.table), ("shop", "t"));
        let cookie = &schema.cookie;
        assert_eq!(
            (cookie.name, cookie.path, cookie.domain),
            ("__Secure-shop", "/shop", Some("example.com"))
        );
        assert_eq!((cookie.same_site, cookie.persistence), (SameSite::None, Persistence::Persistent));
        assert!(cookie.partitioned && cookie.secure);
        assert_eq!(schema.idle, Duration::from_secs(90));
        assert_eq!(schema.absolute, Duration::from_millis(3_600_500));
        assert_eq!((schema.max_per_user, schema.version), (Some(5), 7));
        assert_eq!(
            (schema.columns.id, schema.columns.state, schema.columns.revision),
            ("key", "state", "rev")
        );
    }

    #[test]
    fn an_insecure_cookie_needs_another_name() {
        #[derive(Databag)]
        #[databag(cookie = "shop", secure = false)]
        struct Insecure {
            name: String,
        }

        assert!(!Insecure::SCHEMA.cookie.secure);
        assert_eq!(Insecure::defaults().name(), "");
    }

    #[test]
    fn a_duration_is_the_sum_of_its_parts() {
        assert_eq!(Shop::SCHEMA.idle, Duration::from_mins(90));
        assert_eq!(Shop::SCHEMA.absolute, Duration::from_hours(14 * 24));
    }

    #[test]
    fn fields_keep_the_order_of_the_struct() {
        let names: Vec<_> = Shop::SCHEMA.fields.iter().map(|field| field.name).collect();
        assert_eq!(names, ["user_id", "ip_addr", "tenant", "visits", "notice", "cart", "theme", "tags"]);
    }

    #[test]
    fn roles_follow_the_attributes() {
        assert_eq!(field::<Shop>("user_id").role, Role::User(ColumnType::Integer));
        assert_eq!(field::<Shop>("ip_addr").role, Role::Ip(Bind::Exact));
        let tenant = Role::Column { name: "tenant", ty: ColumnType::Text, index: true };
        assert_eq!(field::<Shop>("tenant").role, tenant);
        let visits = Role::Column { name: "hits", ty: ColumnType::Integer, index: false };
        assert_eq!(field::<Shop>("visits").role, visits);
        assert_eq!(field::<Shop>("cart").role, Role::Plain);
    }

    #[test]
    fn flags_follow_the_attributes() {
        #[derive(Databag)]
        struct Flags {
            #[databag(flash, keep_on_logout)]
            farewell: Option<String>,
            #[databag(reset_on_login)]
            cart: Vec<u32>,
            #[databag(column, blind)]
            email: Option<String>,
        }

        let farewell = field::<Flags>("farewell");
        assert!(farewell.flash && farewell.keep_on_logout && !farewell.reset_on_login);
        let email = field::<Flags>("email");
        assert!(email.blind && !farewell.blind);
        assert_eq!(email.role, Role::Column { name: "email", ty: ColumnType::Text, index: false });
        let cart = field::<Flags>("cart");
        assert!(!cart.flash && !cart.keep_on_logout && cart.reset_on_login);
        assert_eq!((Flags::defaults().farewell(), Flags::defaults().cart()), (None, &[][..]));
    }

    #[test]
    fn the_binding_of_the_address_can_be_chosen() {
        #[derive(Databag)]
        struct Loose {
            #[databag(ip_addr, bind = "prefix")]
            address: Option<IpAddr>,
        }

        assert_eq!(field::<Loose>("address").role, Role::Ip(Bind::Prefix));
        assert_eq!(Loose::defaults().address(), None);
    }

    #[test]
    fn names_and_aliases_are_stored_as_written() {
        #[derive(Databag)]
        #[databag(rename_all = "camelCase")]
        struct Renamed {
            signed_in_at: i64,
            #[databag(rename = "basket", alias = "cart", alias = "trolley")]
            shopping_cart: Vec<u32>,
            r#type: String,
        }

        let names: Vec<_> = Renamed::SCHEMA.fields.iter().map(|field| field.name).collect();
        assert_eq!(names, ["signedInAt", "basket", "type"]);
        assert_eq!(field::<Renamed>("basket").aliases, ["cart", "trolley"]);
        let bag = Renamed::defaults();
        assert_eq!((bag.signed_in_at(), bag.shopping_cart(), bag.r#type()), (0, &[][..], ""));
    }

    #[test]
    fn a_skipped_field_is_not_stored() {
        #[derive(Databag)]
        struct Request {
            kept: u32,
            #[databag(skip, default = 3)]
            lent: u32,
        }

        assert_eq!(Request::SCHEMA.fields.len(), 1);
        assert_eq!((Request::defaults().kept(), Request::defaults().lent()), (0, 3));
    }

    #[test]
    fn a_bag_may_store_nothing() {
        #[derive(Databag)]
        struct Empty {}

        assert!(Empty::SCHEMA.fields.is_empty());
        let Empty {} = Empty::defaults();
    }
}

mod accessors {
    use super::*;

    #[test]
    fn a_getter_returns_a_copy_a_str_a_slice_or_a_reference() {
        let bag = Shop::defaults();
        let _: Option<i64> = bag.user_id();
        let _: Option<IpAddr> = bag.ip_addr();
        let _: Option<&str> = bag.tenant();
        let _: u32 = bag.visits();
        let _: &BTreeMap<String, u32> = bag.cart();
        let _: &Theme = bag.theme();
        let _: &[String] = bag.tags();
        let _: &str = Plain::defaults().name();
    }

    #[test]
    fn a_field_can_be_changed_in_place() {
        let mut bag = Shop::defaults();
        *bag.cart_mut().entry("apple".to_owned()).or_default() += 2;
        *bag.visits_mut() += 1;
        bag.notice_mut().get_or_insert_default().push_str("hello");
        assert_eq!((bag.cart()["apple"], bag.visits(), bag.notice()), (2, 1, Some("hello")));
    }

    #[test]
    fn a_setter_converts_its_argument() {
        let mut bag = Shop::defaults();
        bag.set_theme(false);
        bag.set_tags(["a".to_owned(), "b".to_owned()]);
        bag.set_visits(7_u16);
        assert_eq!(
            (bag.theme(), bag.tags(), bag.visits()),
            (&Theme::Light, &["a".into(), "b".into()][..], 7)
        );
    }

    #[test]
    fn an_option_is_set_without_some_cleared_and_taken() {
        let mut bag = Shop::defaults();
        bag.set_notice("Added to your cart");
        assert_eq!(bag.notice(), Some("Added to your cart"));
        assert_eq!(bag.take_notice().as_deref(), Some("Added to your cart"));
        assert_eq!(bag.notice(), None);
        bag.set_notice("again");
        bag.clear_notice();
        assert_eq!(bag.notice(), None);
    }

    #[test]
    fn an_accessor_can_have_another_name() {
        #[derive(Databag)]
        struct Renamed {
            #[databag(accessor = "number")]
            id: u32,
            #[databag(accessor = "r#move")]
            step: Option<u32>,
        }

        let mut bag = Renamed::defaults();
        bag.set_number(5_u32);
        bag.set_move(6_u32);
        assert_eq!((bag.number(), bag.r#move()), (5, Some(6)));
        assert_eq!(Renamed::SCHEMA.fields[0].name, "id");
    }

    #[test]
    fn accessors_can_be_written_by_hand() {
        #[derive(Databag)]
        struct ByHand {
            #[databag(accessors = false)]
            cart: u32,
        }
        impl ByHand {
            fn cart(&self) -> String {
                self.cart.to_string()
            }
        }

        #[derive(Databag)]
        #[databag(accessors = false)]
        struct AllByHand {
            id: u32,
        }

        assert_eq!(ByHand::defaults().cart(), "0");
        assert_eq!(AllByHand::defaults().id, 0);
    }
}

mod fields {
    use super::*;

    #[test]
    fn a_new_bag_has_its_defaults() {
        let bag = Shop::defaults();
        assert_eq!((bag.theme(), bag.visits(), bag.tenant()), (&Theme::Dark, 0, None));
    }

    #[test]
    fn the_user_is_read_and_set_by_the_trait() {
        let mut bag = Shop::defaults();
        bag.set_user(Some(5));
        let user: Option<i64> = HasUser::user(&bag);
        assert_eq!((user, bag.user_id()), (Some(5), Some(5)));
    }

    #[tokio::test]
    async fn the_user_field_may_be_called_user() {
        #[derive(Databag)]
        struct Named {
            #[databag(user_id)]
            user: Option<i64>,
        }

        #[derive(Databag)]
        struct Renamed {
            #[databag(user_id, accessor = "user")]
            account: Option<String>,
        }

        let mut session = Session::for_test(Named::defaults());
        assert_eq!(session.user(), None);
        session.log_in(5);
        let user: Option<i64> = session.user();
        assert_eq!((user, session.user, HasUser::user(&*session)), (Some(5), Some(5), Some(5)));
        let mut session = LoggedIn::new(session).expect("the user is logged in");
        let user: i64 = session.user();
        assert_eq!(user, 5);
        session.set_user(6);
        *session.user_mut() = session.user.map(|user| user + 1);
        assert_eq!((session.user(), session.take_user()), (7, Some(7)));

        let mut session = Session::for_test(Renamed::defaults());
        session.log_in("ada");
        let user: Option<&str> = session.user();
        assert_eq!(user, Some("ada"));
        let session = LoggedIn::new(session).expect("the user is logged in");
        let user: &str = session.user();
        assert_eq!(user, "ada");
        assert_eq!(format!("{:?} {:?}", Named::USER, Renamed::ACCOUNT), "User User");
    }

    #[test]
    fn a_user_may_be_text_or_another_column_value() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Account(i64);

        impl ColumnValue for Account {
            const TYPE: ColumnType = ColumnType::Integer;
            fn to_value(&self) -> Value {
                Value::Integer(self.0)
            }
        }

        #[derive(Databag)]
        struct Named {
            #[databag(user_id)]
            name: Option<String>,
        }

        #[derive(Databag)]
        struct Owned {
            #[databag(user_id)]
            account: Option<Account>,
        }

        let mut named = Named::defaults();
        named.set_user(Some("ada".to_owned()));
        let user: Option<&str> = HasUser::user(&named);
        assert_eq!((user, named.name()), (Some("ada"), Some("ada")));

        let mut owned = Owned::defaults();
        owned.set_account(Account(7));
        let user: Option<&Account> = owned.user();
        assert_eq!((user, owned.account()), (Some(&Account(7)), Some(&Account(7))));
    }

    #[test]
    fn the_runtime_sets_the_address() {
        let mut bag = Shop::defaults();
        let address = IpAddr::from(Ipv4Addr::LOCALHOST);
        bag.set_ip(Some(address));
        assert_eq!((bag.ip(), bag.ip_addr()), (Some(address), Some(address)));

        Plain::defaults().set_ip(Some(address));
    }

    #[test]
    fn projected_fields_are_copied_in_their_order() {
        let mut bag = Shop::defaults();
        bag.set_user(Some(5));
        bag.set_tenant("acme");
        bag.set_visits(3_u32);
        let mut projection = Projection::default();
        bag.project(&mut projection);

        let mut expected = Projection::default();
        expected.user::<Shop>(Some(&5_i64));
        expected.column(Some(&"acme".to_owned()));
        expected.column(Some(&3_u32));
        assert_eq!(projection, expected);
    }

    #[test]
    fn a_column_has_a_typed_constant() {
        let _: Column<Shop, i64> = Shop::USER_ID;
        let _: Column<Shop, IpAddr> = Shop::IP_ADDR;
        let _: Column<Shop, String> = Shop::TENANT;
        let _: Column<Shop, u32> = Shop::VISITS;
        assert_eq!(format!("{:?} {:?}", Shop::USER_ID, Shop::IP_ADDR), "User Ip");
        assert_eq!(format!("{:?} {:?}", Shop::TENANT, Shop::VISITS), "Projected(0) Projected(1)");
    }

    #[test]
    fn a_codec_can_be_chosen() {
        struct Own;

        impl Codec for Own {
            const NAME: &'static str = "own";
            const FRAMING: Framing = Framing::Binary;
            const HUMAN_READABLE: bool = false;
            fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
                Bincode::encode(value, out)
            }
            fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
                Bincode::decode(bytes)
            }
        }

        #[derive(Databag)]
        #[databag(codec = "json")]
        struct Json {
            name: String,
        }

        #[derive(Databag)]
        #[databag(codec = Own)]
        struct ByType {
            name: String,
        }

        fn framing<T: Databag>(_: &T) -> Framing {
            T::Codec::FRAMING
        }

        assert_eq!((framing(&Json::defaults()), Json::defaults().name()), (Framing::JsonObject, ""));
        assert_eq!((framing(&ByType::defaults()), ByType::defaults().name()), (Framing::Binary, ""));
    }

    #[derive(Default)]
    struct Foreign(u32);

    mod foreign {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use super::Foreign;

        pub(super) fn serialize<S: Serializer>(value: &Foreign, serializer: S) -> Result<S::Ok, S::Error> {
            value.0.serialize(serializer)
        }

        pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Foreign, D::Error> {
            u32::deserialize(deserializer).map(Foreign)
        }
    }

    #[test]
    fn a_type_without_serde_is_stored_by_a_module() {
        #[derive(Databag)]
        struct Wrapped {
            #[databag(with = foreign)]
            foreign: Foreign,
        }

        assert_eq!(Wrapped::defaults().foreign().0, 0);
        assert_eq!(field::<Wrapped>("foreign").role, Role::Plain);
    }
}

mod column_values {
    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq, ColumnValue, Serialize, Deserialize)]
    #[column(rename_all = "kebab-case")]
    enum Mode {
        #[default]
        Light,
        HighContrast,
        #[column(rename = "night")]
        Dark,
        r#Loop,
    }

    #[derive(Databag)]
    struct Shop {
        #[databag(column)]
        mode: Mode,
        #[databag(column, index)]
        preferred: Option<Mode>,
    }

    #[test]
    fn an_enum_is_text_in_a_column() {
        let texts = [Mode::Light, Mode::HighContrast, Mode::Dark, Mode::Loop].map(|mode| mode.to_value());
        assert_eq!(
            texts,
            ["light", "high-contrast", "night", "loop"].map(|text| Value::Text(text.to_owned()))
        );
        assert_eq!(Mode::TYPE, ColumnType::Text);
    }

    #[test]
    fn a_variant_is_its_name_in_a_column() {
        #[derive(ColumnValue)]
        enum Plan {
            Free,
            ProPlus,
        }
        let texts = [Plan::Free, Plan::ProPlus].map(|plan| plan.to_value());
        assert_eq!(texts, ["Free", "ProPlus"].map(|text| Value::Text(text.to_owned())));
    }

    #[test]
    fn an_enum_is_projected_and_queried_as_its_type() {
        assert_eq!(
            field::<Shop>("mode").role,
            Role::Column { name: "mode", ty: ColumnType::Text, index: false }
        );
        let mut bag = Shop::defaults();
        bag.set_preferred(Mode::Dark);
        let mut projection = Projection::default();
        bag.project(&mut projection);
        let mut expected = Projection::default();
        expected.column(Some(&"light".to_owned()));
        expected.column(Some(&"night".to_owned()));
        assert_eq!((projection, bag.mode(), bag.preferred()), (expected, &Mode::Light, Some(&Mode::Dark)));
        let _ = Shop::MODE.eq(Mode::Dark).and(Shop::PREFERRED.one_of([Mode::Light, Mode::HighContrast]));
    }
}

mod equality {
    use super::*;

    #[derive(Default, Serialize, Deserialize)]
    struct Incomparable(u32);

    #[derive(Databag)]
    struct Bag {
        views: HashMap<u32, u32>,
        opaque: Incomparable,
        number: u32,
    }

    #[test]
    fn another_order_of_a_map_is_not_a_change() {
        let mut bag = Bag::defaults();
        bag.views_mut().extend((0..100).map(|n| (n, n)));
        let views = position::<Bag>("views");
        let reversed: Vec<(u32, u32)> = (0..100).rev().map(|n| (n, n)).collect();
        assert!(bag.compare(views, &encoded(&reversed), Comparison::Unchanged));
        bag.views_mut().insert(100, 100);
        assert!(!bag.compare(views, &encoded(&reversed), Comparison::Unchanged));
    }

    #[test]
    fn an_encoding_that_does_not_decode_is_not_equal() {
        assert!(!Bag::defaults().compare(position::<Bag>("views"), b"\xFF", Comparison::Unchanged));
    }

    #[test]
    fn a_type_without_equality_differs_with_its_encoding() {
        let bag = Bag::defaults();
        assert!(!bag.compare(position::<Bag>("opaque"), &encoded(&Incomparable(1)), Comparison::Unchanged));
    }

    #[test]
    fn a_field_is_compared_with_what_comes_back() {
        let bag = Bag::defaults();
        let number = position::<Bag>("number");
        assert!(bag.compare(number, &encoded(&0_u32), Comparison::ReadBack));
        assert!(!bag.compare(number, &encoded(&1_u32), Comparison::ReadBack));
        assert!(!bag.compare(number, b"", Comparison::ReadBack));
        let opaque = position::<Bag>("opaque");
        assert!(bag.compare(opaque, &encoded(&Incomparable(0)), Comparison::ReadBack));
        assert!(!bag.compare(opaque, b"", Comparison::ReadBack));
    }

    #[test]
    fn a_type_with_one_encoding_per_value_is_not_decoded() {
        let bag = Bag::defaults();
        assert!(!bag.compare(position::<Bag>("number"), &encoded(&0_u32), Comparison::Unchanged));
    }
}

mod debug {
    use super::*;

    #[derive(Databag)]
    struct Account {
        name: String,
        #[databag(secret)]
        pin: u32,
        #[databag(secret)]
        opaque: HashMap<u32, Silent>,
    }

    #[derive(Default, Serialize, Deserialize)]
    struct Silent(u8);

    #[test]
    fn a_secret_is_not_shown() {
        let mut bag = Account::defaults();
        bag.set_name("ada");
        bag.set_pin(1234_u32);
        bag.opaque_mut().insert(1, Silent(2));
        let shown = format!("{bag:?}");
        assert_eq!(shown, r#"Account { name: "ada", pin: <redacted>, opaque: <redacted> }"#);
    }

    #[test]
    fn a_bag_without_secrets_derives_debug_itself() {
        #[derive(Databag, Debug)]
        struct Open {
            name: String,
        }

        assert_eq!(format!("{:?}", Open::defaults()), r#"Open { name: "" }"#);
        assert_eq!(Open::defaults().name(), "");
    }
}
