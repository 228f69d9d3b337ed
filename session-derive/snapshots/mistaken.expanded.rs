::core::compile_error! {
    "`30mins` is not a duration\nhelp: write `idle = \"30m\"`; the units are `ms`, `s`, `m`, `h`, `d` and `w`"
}
::core::compile_error! {
    "`secret` cannot be combined with `column`\nhelp: a column is stored in the clear; write `column, blind`, or remove `column`: the record is sealed"
}
const _: () = {
    use ::session_runtime::__private as __databag;
    #[automatically_derived]
    impl __databag::Databag for Shop
    where
        Self: 'static,
    {
        type Codec = __databag::Json;
        const SCHEMA: &'static __databag::Schema = ::core::unreachable!();
        fn defaults() -> Self {
            ::core::unreachable!()
        }
        fn shapes(_: &mut __databag::Shapes) {}
        fn encode(
            &self,
            _: &mut __databag::Encoder,
        ) -> __databag::Result<(), __databag::CodecError> {
            __databag::Ok(())
        }
        fn decode(&mut self, _: &mut __databag::Decoder<'_>) {}
    }
    #[automatically_derived]
    impl __databag::HasUser for Shop
    where
        Self: 'static,
    {
        type User = i64;
        type UserRef<'__a> = i64;
        fn user(&self) -> __databag::Option<<Self as __databag::HasUser>::UserRef<'_>> {
            __databag::None
        }
        fn set_user(&mut self, _: __databag::Option<i64>) {}
    }
    #[automatically_derived]
    impl __databag::fmt::Debug for Shop
    where
        Self: 'static,
    {
        fn fmt(&self, _: &mut __databag::fmt::Formatter<'_>) -> __databag::fmt::Result {
            ::core::unreachable!()
        }
    }
    #[automatically_derived]
    #[allow(dead_code)]
    impl Shop {
        ///Returns `account`.
        #[must_use]
        #[inline]
        fn account(&self) -> __databag::Option<i64> {
            self.account
        }
        ///Borrows `account` mutably.
        #[must_use]
        #[inline]
        fn account_mut(&mut self) -> &mut Option<i64> {
            &mut self.account
        }
        ///Replaces `account`.
        #[inline]
        fn set_account(&mut self, value: impl __databag::IntoValue<i64>) {
            self.account = __databag::Some(__databag::Into::into(value));
        }
        ///Sets `account` to `None`.
        #[inline]
        fn clear_account(&mut self) {
            self.account = __databag::None;
        }
        ///Takes the value out of `account`, and leaves `None`.
        #[inline]
        fn take_account(&mut self) -> __databag::Option<i64> {
            self.account.take()
        }
        ///Returns `tenant`.
        #[must_use]
        #[inline]
        fn tenant(&self) -> __databag::Option<&__databag::str> {
            self.tenant.as_deref()
        }
        ///Borrows `tenant` mutably.
        #[must_use]
        #[inline]
        fn tenant_mut(&mut self) -> &mut Option<String> {
            &mut self.tenant
        }
        ///Replaces `tenant`.
        #[inline]
        fn set_tenant(&mut self, value: impl __databag::IntoValue<String>) {
            self.tenant = __databag::Some(__databag::Into::into(value));
        }
        ///Sets `tenant` to `None`.
        #[inline]
        fn clear_tenant(&mut self) {
            self.tenant = __databag::None;
        }
        ///Takes the value out of `tenant`, and leaves `None`.
        #[inline]
        fn take_tenant(&mut self) -> __databag::Option<String> {
            self.tenant.take()
        }
    }
    #[automatically_derived]
    #[allow(dead_code)]
    impl Shop
    where
        Self: 'static,
    {
        ///The column of `account`, for queries.
        const ACCOUNT: __databag::Column<Self, i64> = __databag::user_column::<Self>();
        ///The column of `tenant`, for queries.
        const TENANT: __databag::Column<Self, String> = {
            __databag::column_type::<String>();
            __databag::column::<Self, String>(__databag::ColumnRef::Projected(0usize))
        };
    }
};
