//! What runs inside the server, one script per step: keys and values in, a word out.
//!
//! All keys of a script share a hash tag, so every one of them runs in a cluster too. `row` is the hash of a row,
//! `list` the sorted set of the ids of its shard by expiration. The field without a name is the mark of a row
//! whose id is being changed (see the module above): no column can have that name.

use std::sync::LazyLock;

use redis::Script;

/// Adds an id to the sessions of a user, and keeps the set for as long as its last entry. Entries long expired
/// go, so that the set of one who comes every day does not grow.
///
/// Keys: the user's set. Values: id, expiration, how long a row stays behind its expiration.
pub(super) static INDEX: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local now = redis.call('TIME')
        local dead = string.format('%.0f', now[1] * 1000 - ARGV[3])
        redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', dead)
        redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
        local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
        if last[2] then
            redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', last[2] + ARGV[3]))
        end
        return 'stored'
        ",
    )
});

/// Adds a row that is not there. One that this very call has added already is: a client of a cluster sends a call again
/// when its connection broke, whatever became of it.
///
/// A mark that a deletion or a change of the id has left, and is done with, makes room. Some entries of the list that
/// are dead go too, more than are added, so that it does not grow for ever.
///
/// Keys: row, list. Values: id, expiration, when the key goes, how long a row stays behind its expiration, the name of
/// the field that tells calls apart, what it says of this one, then fields and their values.
pub(super) static INSERT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local there = redis.call('HMGET', KEYS[1], '', ARGV[5])
        if there[2] == ARGV[6] then return 'stored' end
        if there[1] and there[2] and string.sub(there[1], 1, 5) ~= 'from:' then
            redis.call('DEL', KEYS[1])
        elseif redis.call('EXISTS', KEYS[1]) == 1 then
            return 'taken'
        end
        redis.call('HSET', KEYS[1], unpack(ARGV, 5))
        redis.call('PEXPIREAT', KEYS[1], ARGV[3])
        redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
        local now = redis.call('TIME')[1] * 1000
        local range = { string.format('%.0f', -now), string.format('%.0f', now - ARGV[4]) }
        local dead = redis.call('ZRANGEBYSCORE', KEYS[2], range[1], range[2], 'LIMIT', 0, 16)
        if dead[1] then redis.call('ZREM', KEYS[2], unpack(dead)) end
        return 'stored'
        ",
    )
});

/// Changes a row of the expected revision. One that this very call has changed already is no conflict: a client of
/// a cluster sends a call again when its connection broke, whatever became of it.
///
/// Keys: row, list. Values: id, name of the revision, expected revision, expiration or nothing, when the key
/// goes, the name of the field that tells calls apart, what it says of this one, how many fields are removed, those
/// fields, then fields and their values.
pub(super) static UPDATE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local there = redis.call('HMGET', KEYS[1], '', ARGV[2], ARGV[6])
        if there[1] then return there[1] end
        if not there[2] then return 'gone' end
        if there[3] == ARGV[7] then return 'stored' end
        if there[2] ~= ARGV[3] then return 'conflict' end
        local removed = tonumber(ARGV[8])
        if removed > 0 then redis.call('HDEL', KEYS[1], unpack(ARGV, 9, 8 + removed)) end
        redis.call('HSET', KEYS[1], ARGV[6], ARGV[7], unpack(ARGV, 9 + removed))
        if ARGV[4] ~= '' then
            redis.call('PEXPIREAT', KEYS[1], ARGV[5])
            redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
        end
        return 'stored'
        ",
    )
});

/// Gives a row of the expected revision away to another id. The list keeps the old one for as long as the mark is there,
/// with a score below zero.
///
/// Keys: row, list. Values: id, name of the revision, expected revision, the mark to leave, until when.
pub(super) static GIVE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local there = redis.call('HMGET', KEYS[1], '', ARGV[2])
        if there[1] then return there[1] end
        if not there[2] then return 'gone' end
        if there[2] ~= ARGV[3] then return 'conflict' end
        redis.call('DEL', KEYS[1])
        redis.call('HSET', KEYS[1], '', ARGV[4])
        redis.call('PEXPIREAT', KEYS[1], ARGV[5])
        redis.call('ZADD', KEYS[2], '-' .. ARGV[5], ARGV[1])
        return 'stored'
        ",
    )
});

/// Takes the mark from a row if it is this one.
///
/// Keys: row. Values: the mark.
pub(super) static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('HGET', KEYS[1], '') ~= ARGV[1] then return 'gone' end
        redis.call('HDEL', KEYS[1], '')
        return 'stored'
        ",
    )
});

/// Says of a mark that its change of an id is done, and lets it go before long.
///
/// Keys: row, list. Values: id, the mark, how long it stays, the name of the field that tells calls apart.
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('HGET', KEYS[1], '') ~= ARGV[2] then return 'gone' end
        local last = string.format('%.0f', redis.call('TIME')[1] * 1000 + ARGV[3])
        redis.call('HSET', KEYS[1], ARGV[4], '')
        redis.call('PEXPIREAT', KEYS[1], last)
        redis.call('ZADD', KEYS[2], '-' .. last, ARGV[1])
        return 'stored'
        ",
    )
});

/// Removes a row if it has this mark.
///
/// Keys: row, list. Values: id, the mark.
pub(super) static WITHDRAW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        if redis.call('HGET', KEYS[1], '') ~= ARGV[2] then return 'gone' end
        redis.call('DEL', KEYS[1])
        redis.call('ZREM', KEYS[2], ARGV[1])
        return 'stored'
        ",
    )
});

/// Removes a row, and leaves for a while by which call, which may be sent again.
///
/// Keys: row, list. Values: id, the name of the field that tells calls apart, what it says of this one, how long it
/// stays.
pub(super) static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local there = redis.call('HMGET', KEYS[1], '', ARGV[2])
        if there[1] == 'gone' and there[2] == ARGV[3] then return 'stored' end
        if there[1] then return there[1] end
        redis.call('ZREM', KEYS[2], ARGV[1])
        if redis.call('DEL', KEYS[1]) == 0 then return 'gone' end
        redis.call('HSET', KEYS[1], '', 'gone', ARGV[2], ARGV[3])
        redis.call('PEXPIRE', KEYS[1], ARGV[4])
        return 'stored'
        ",
    )
});

/// Removes a row that expired by a time, and what lists it.
///
/// Keys: row, list. Values: id, the time.
pub(super) static PRUNE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local expiration = redis.call('ZSCORE', KEYS[2], ARGV[1])
        if not expiration or tonumber(expiration) > tonumber(ARGV[2]) then return 'conflict' end
        if tonumber(expiration) < 0 then return 'gone' end
        redis.call('ZREM', KEYS[2], ARGV[1])
        redis.call('DEL', KEYS[1])
        return 'stored'
        ",
    )
});
