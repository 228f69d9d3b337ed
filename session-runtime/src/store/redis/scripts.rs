//! The scripts that run in the server, one for each step: keys and values enter, a word leaves.
//!
//! All keys of a script share a hash tag, so every one of them runs in a cluster too. `row` is the hash of a row,
//! `list` the sorted set of the ids of its shard by expiration. The field without a name is the mark of a row
//! whose id is being changed (see `rename`): no column can have that name.
//!
//! A call may reach the server twice, and the second time late. A script that inserts, changes or removes a row knows its
//! call by the id that it left there. Then it changes nothing and gives the same reply. What waits for replicas writes a
//! value again, because `WAIT` waits for what the same connection has written.
//!
//! No script calls `TIME`, which a user of Redis may lack. The time of the server is the time at which a key expires,
//! less the time that it has left (`PTTL`).

use std::sync::OnceLock;

/// A script, known to the server by its hash.
pub(super) struct Script {
    pub(super) text: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    const fn new(text: &'static str) -> Self {
        Self { text, hash: OnceLock::new() }
    }

    pub(super) fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }
}

/// Reads fields of a row, and of a value that is too long only its length: nothing, or for each field its value, nothing
/// or an integer. A key that is no hash has no fields.
///
/// Keys: row. Values: the most bytes of a value, then the names of the fields.
pub(super) static READ: Script = Script::new(
    r"
    local kind = redis.call('TYPE', KEYS[1]).ok
    local fields = {}
    if kind == 'none' then return fields end
    for n = 2, #ARGV do
        local length = kind == 'hash' and redis.call('HSTRLEN', KEYS[1], ARGV[n]) or 0
        if length > tonumber(ARGV[1]) then
            fields[n - 1] = length
        else
            fields[n - 1] = kind == 'hash' and redis.call('HGET', KEYS[1], ARGV[n])
        end
    end
    return fields
    ",
);

/// Adds an id to the sessions of a user, and keeps the set for as long as its last entry. Entries that expired long ago
/// are removed, so that the set of a daily visitor does not grow.
///
/// Keys: the user's set. Values: id, expiration, how long a row outlives its expiration, the last time at which a key can
/// expire.
pub(super) static INDEX_USER: Script = Script::new(
    r"
    redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
    local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
    local ends = math.min(last + ARGV[3], tonumber(ARGV[4]))
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', ends))
    local now = ends - redis.call('PTTL', KEYS[1])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[3]))
    return 'stored'
    ",
);

/// Inserts a row.
///
/// It replaces a mark that a deletion or a complete rename has left, and as a step of a rename only the one of a rename that
/// was taken back: a rename that is sent again when its session has ended must not revive it. It removes some dead entries
/// of the list too, more than it adds, so that the list does not grow without end.
///
/// Keys: row, list. Values: id, expiration, when the key expires, how long a row outlives its expiration, the name of
/// the call field, the name of the insertion field, the id of this call, then fields and their values, the mark last.
pub(super) static INSERT: Script = Script::new(
    r"
    local there = redis.call('HMGET', KEYS[1], '', ARGV[5], ARGV[6])
    if there[3] == ARGV[7] then
        redis.call('HSET', KEYS[1], ARGV[6], ARGV[7])
        return 'stored'
    end
    local is_free = there[1] and there[2] and string.sub(there[1], 1, 5) ~= 'from:'
    if ARGV[#ARGV - 1] == '' then is_free = there[1] == 'gone' and there[2] == '' end
    if is_free then
        redis.call('DEL', KEYS[1])
    elseif redis.call('EXISTS', KEYS[1]) == 1 then
        return 'taken'
    end
    redis.call('HSET', KEYS[1], unpack(ARGV, 6))
    redis.call('PEXPIREAT', KEYS[1], ARGV[3])
    redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
    local now = ARGV[3] - redis.call('PTTL', KEYS[1])
    local range = { string.format('%.0f', -now), string.format('%.0f', now - ARGV[4]) }
    local dead = redis.call('ZRANGEBYSCORE', KEYS[2], range[1], range[2], 'LIMIT', 0, 16)
    if dead[1] then redis.call('ZREM', KEYS[2], unpack(dead)) end
    return 'stored'
    ",
);

/// Changes a row of the expected revision. A row that the same call has changed is no conflict, also if a few other calls
/// have changed it since: the call field holds the ids of the last eight, for clients of a cluster, which send calls again
/// without saying so.
///
/// Keys: row, list. Values: id, name of the revision, expected revision, expiration or nothing, when the key
/// expires, the name of the call field, the id of this call, the number of fields to remove, those fields, then fields
/// and their values.
pub(super) static UPDATE: Script = Script::new(
    r"
    local there = redis.call('HMGET', KEYS[1], '', ARGV[2], ARGV[6])
    if there[1] then return there[1] end
    if not there[2] then return 'gone' end
    local calls = there[3] or ''
    if string.find(calls, ARGV[7], 1, true) then
        redis.call('HSET', KEYS[1], ARGV[6], calls)
        return 'stored'
    end
    if there[2] ~= ARGV[3] then return 'conflict' end
    local removed = tonumber(ARGV[8])
    if removed > 0 then redis.call('HDEL', KEYS[1], unpack(ARGV, 9, 8 + removed)) end
    calls = string.sub(calls .. ARGV[7], -8 * #ARGV[7])
    redis.call('HSET', KEYS[1], ARGV[6], calls, unpack(ARGV, 9 + removed))
    if ARGV[4] ~= '' then
        redis.call('PEXPIREAT', KEYS[1], ARGV[5])
        redis.call('ZADD', KEYS[2], ARGV[4], ARGV[1])
    end
    return 'stored'
    ",
);

/// Step 2 of a rename: replaces a row of the expected revision by a mark, and returns its user. The list keeps the old id
/// for as long as the mark is there, with a negative score.
///
/// Keys: row, list. Values: id, name of the revision, expected revision, the mark, when it expires, then the names of the
/// user's field, of the field of a mark that keeps the user, and of the insertion field.
pub(super) static COMMIT_RENAME: Script = Script::new(
    r"
    local there = redis.call('HMGET', KEYS[1], '', ARGV[2], ARGV[6], ARGV[7], ARGV[8])
    if there[1] == ARGV[4] then
        redis.call('HSET', KEYS[1], '', ARGV[4])
        return { 'stored', there[4] }
    end
    if there[1] then return there[1] end
    if not there[2] then return 'gone' end
    if there[2] ~= ARGV[3] then return 'conflict' end
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], '', ARGV[4], ARGV[7], there[3] or '', ARGV[8], there[5] or '')
    redis.call('PEXPIREAT', KEYS[1], ARGV[5])
    redis.call('ZADD', KEYS[2], '-' .. ARGV[5], ARGV[1])
    return { 'stored', there[3] }
    ",
);

/// Step 3 of a rename: removes this mark from a row.
///
/// Keys: row. Values: the mark, the name of the insertion field.
pub(super) static COMPLETE_RENAME: Script = Script::new(
    r"
    local there = redis.call('HMGET', KEYS[1], '', ARGV[2])
    if there[1] == ARGV[1] then
        redis.call('HDEL', KEYS[1], '')
    elseif there[1] or not there[2] then
        return 'gone'
    else
        redis.call('HSET', KEYS[1], ARGV[2], there[2])
    end
    return 'stored'
    ",
);

/// Notes on a mark that its rename is complete, and lets it expire soon.
///
/// Keys: row, list. Values: id, the mark, how long it stays, the name of the call field, the last time at which a key can
/// expire.
pub(super) static EXPIRE_MARK: Script = Script::new(
    r"
    if redis.call('HGET', KEYS[1], '') ~= ARGV[2] then return 'gone' end
    redis.call('HSET', KEYS[1], ARGV[4], '')
    redis.call('PEXPIREAT', KEYS[1], ARGV[5])
    local now = ARGV[5] - redis.call('PTTL', KEYS[1])
    local last = string.format('%.0f', now + ARGV[3])
    redis.call('PEXPIREAT', KEYS[1], last)
    redis.call('ZADD', KEYS[2], '-' .. last, ARGV[1])
    return 'stored'
    ",
);

/// Takes step 1 of a rename back: replaces a row with this mark by a mark that stays for a while.
///
/// Keys: row, list. Values: id, the mark, the name of the call field, how long the mark stays, the name of the insertion
/// field.
pub(super) static ABORT_RENAME: Script = Script::new(
    r"
    local there = redis.call('HMGET', KEYS[1], '', ARGV[5])
    if there[1] ~= ARGV[2] then return 'gone' end
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('HSET', KEYS[1], '', 'gone', ARGV[3], '', ARGV[5], there[2] or '')
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    return 'stored'
    ",
);

/// Replaces a row by a mark that stays for a while, and returns its user. A key that is no hash, which another program has
/// written, is removed like a row.
///
/// Keys: row, list. Values: id, the name of the call field, the id of this call, how long the mark stays, then the names
/// of the user's field, of the field of a mark that keeps the user, and of the insertion field.
pub(super) static DELETE: Script = Script::new(
    r"
    local there = {}
    if redis.call('TYPE', KEYS[1]).ok == 'hash' then
        there = redis.call('HMGET', KEYS[1], '', ARGV[2], ARGV[5], ARGV[6], ARGV[7])
        if there[1] == 'gone' and there[2] == ARGV[3] then
            redis.call('PEXPIRE', KEYS[1], ARGV[4])
            return { 'stored', there[4] }
        end
        if there[1] then return there[1] end
    end
    redis.call('ZREM', KEYS[2], ARGV[1])
    if redis.call('DEL', KEYS[1]) == 0 then return 'gone' end
    local kept = { ARGV[6], there[3] or '', ARGV[7], there[5] or '' }
    redis.call('HSET', KEYS[1], '', 'gone', ARGV[2], ARGV[3], unpack(kept))
    redis.call('PEXPIRE', KEYS[1], ARGV[4])
    return { 'stored', there[3] }
    ",
);

/// Removes a row that has expired at a time, and its entry in the list.
///
/// Keys: row, list. Values: id, the time.
pub(super) static PRUNE: Script = Script::new(
    r"
    local expiration = redis.call('ZSCORE', KEYS[2], ARGV[1])
    if not expiration or tonumber(expiration) > tonumber(ARGV[2]) then return 'conflict' end
    if tonumber(expiration) < 0 then return 'gone' end
    redis.call('ZREM', KEYS[2], ARGV[1])
    redis.call('DEL', KEYS[1])
    return 'stored'
    ",
);
