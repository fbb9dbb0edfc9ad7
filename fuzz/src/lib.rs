//! What must hold for any bytes, one function for each parser that strangers can reach.
//!
//! A function returns for whatever it is given, or panics, which is a finding. It is called by the fuzzer
//! (`scripts/fuzz.sh`), and with the kept corpora and what is made of them by an ordinary test.

use std::collections::BTreeSet;

use evergate_access::{Grant, Grants, KeySet, Origin, Rules, Ticket, Verifier};
use evergate_domain::sse as frames;
use evergate_domain::sse::{Decoder, Item};
use evergate_domain::{
    ClientId, Cursor, EventType, Key, KeyFilter, KeyPattern, Network, Offset, PackedCursor, ProducerId,
    Start, StoredCursor, StreamName, StreamPattern, StreamSet, TraceParent,
};
use evergate_proto::control::v1 as control;
use evergate_proto::publish::v1 as publishing;
use evergate_proto::raft::v1 as raft;
use prost::Message;

/// A name, that of its corpus, and what is to be called.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("names", names),
    ("start", start),
    ("cursor", cursor),
    ("stored", stored),
    ("sse", sse),
    ("grants", grants),
    ("token", token),
    ("claims", claims),
    ("keys", keys),
    ("publish", publish),
    ("messages", messages),
    ("replies", replies),
];

/// A moment at which the token of the corpus is good.
const NOW: u64 = 1_800_000_000;

/// The secret of the key in the corpus.
const KEYS: &str = r#"{"keys":[{"kty":"oct","alg":"HS256","kid":"k","k":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0-Pw"},{"kty":"OKP","crv":"Ed25519","kid":"e","x":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;

/// The one token that was signed with it.
pub const TOKEN: &str = include_str!("token.txt");

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// A name that is taken is written as it was read, and holds nothing that could end a line.
pub fn names(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let plain = |name: &str| {
        assert_eq!(name, text);
        assert!(!name.is_empty() && !name.contains(char::is_control), "{name:?}");
    };
    if let Ok(name) = StreamName::new(text) {
        plain(name.as_str());
    }
    if let Ok(name) = Key::new(text) {
        plain(name.as_str());
    }
    if let Ok(name) = EventType::new(text) {
        plain(name.as_str());
    }
    if let Ok(name) = ProducerId::new(text) {
        plain(name.as_str());
    }
    if let Ok(name) = ClientId::new(text) {
        plain(name.as_str());
    }
    if let Ok(pattern) = text.parse::<StreamPattern>() {
        assert_eq!(pattern.to_string(), text);
    }
    if let Ok(network) = text.parse::<Network>() {
        assert_eq!(network.to_string().parse::<Network>().as_ref(), Ok(&network));
    }
    if let Some(trace) = TraceParent::parse(text) {
        assert_eq!(TraceParent::parse(&trace.to_string()), Some(trace));
    }
    if let Some(ticket) = Ticket::parse(text) {
        assert_eq!(ticket.to_string(), text);
    }
    if let Ok(pattern) = KeyPattern::parse(text) {
        let mut filter = KeyFilter::default();
        filter.add(pattern);
        assert!(filter.within(&KeyFilter::all()).is_some_and(|same| same == filter), "all is granted");
    }
}

/// What `from` takes is one of the forms, and an offset is written as it was read.
pub fn start(data: &[u8]) {
    let Some(text) = text(data) else { return };
    match text.parse::<Start>() {
        Ok(Start::After(offset)) => assert_eq!(offset.to_string(), text),
        Ok(Start::Last(n)) => assert_eq!(format!("-{n}"), format!("-{}", text[1..].trim_start_matches('0'))),
        Ok(Start::Latest | Start::Earliest | Start::Time(_)) | Err(_) => {}
    }
    if let Ok(offset) = text.parse::<Offset>() {
        assert_eq!(offset.to_string(), text, "an id has one spelling");
    }
}

fn sets() -> [StreamSet; 3] {
    [&["s"][..], &["a", "b"], &["a", "b", "c.d", "e:f", "g-h"]].map(|names| {
        let names = names.iter().map(|name| StreamName::new(name).expect("a name"));
        StreamSet::new(names.collect()).expect("a set")
    })
}

/// A cursor that is taken is written as it was read, for the streams it was made for and for no others.
pub fn cursor(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let taken: Vec<_> =
        sets().iter().filter_map(|set| Some((Cursor::parse(set, text).ok()?, set.clone()))).collect();
    assert!(taken.len() <= 1, "two sets of streams take {text:?}");
    for (cursor, set) in taken {
        assert_eq!(cursor.to_string(), text);
        assert_eq!(cursor.pack().unpack(&set).as_ref(), Ok(&cursor));
    }
}

/// What was kept for a client may be anything: somebody else may have written it.
pub fn stored(data: &[u8]) {
    if let Some(stored) = StoredCursor::from_bytes(data) {
        let again = StoredCursor::from_bytes(&stored.to_bytes());
        assert_eq!(again.as_ref(), Some(&stored));
    }
    for set in sets() {
        if let Ok(cursor) = PackedCursor::from_bytes(data).unpack(&set) {
            assert_eq!(cursor.pack().unpack(&set).as_ref(), Ok(&cursor));
        }
    }
}

/// A stream says the same however it is cut, and what is written as data is read as that and nothing else.
pub fn sse(data: &[u8]) {
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut items) = (Decoder::new(512, "1-1"), Vec::new());
        let mut result = Ok(());
        for piece in pieces {
            result = decoder.feed(piece, &mut items);
            if result.is_err() {
                break;
            }
        }
        (items, result)
    };
    let whole = read(&mut std::iter::once(data));
    let size = data.first().map_or(1, |byte| usize::from(byte % 7) + 1);
    assert_eq!(read(&mut data.chunks(size)), whole, "in pieces of {size}");

    let Some(text) = text(data).filter(|text| text.len() < 4096) else { return };
    let mut frame = Vec::new();
    frames::fields(&mut frame, Some("t"), text);
    frames::id(&mut frame, |out| out.extend_from_slice(b"1-2"));
    let (mut decoder, mut items) = (Decoder::new(1 << 16, ""), Vec::new());
    decoder.feed(&frame, &mut items).expect("our own frames can be read");
    let [Item::Message(message)] = items.as_slice() else { panic!("one event, and not {items:?}") };
    let expected = text.replace("\r\n", "\n").replace('\r', "\n");
    assert_eq!((message.kind.as_str(), message.data.as_str()), ("t", expected.as_str()));
    assert_eq!(message.last_event_id, "1-2");
}

/// A grant is written as it was read, and grants no more than it says.
pub fn grants(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let lines: Vec<Grant> = text.split(',').filter_map(|line| line.parse().ok()).collect();
    for grant in &lines {
        assert_eq!(
            grant.to_string().parse::<Grant>().as_ref().map(ToString::to_string),
            Ok(grant.to_string())
        );
    }
    let Ok(granted) = Grants::new(lines, Vec::new()) else { return };
    for stream in ["s", "quote", "a.b:c"].map(|name| StreamName::new(name).expect("a name")) {
        if let Some(shown) = granted.subscribe(&stream, &KeyFilter::all()) {
            assert!(granted.covers(&stream, &shown), "what is shown of {stream} is granted");
        }
        assert!(!granted.publishes_to(&stream), "nothing was said of publishing");
    }
}

fn verifier() -> Verifier {
    Verifier::new(Rules {
        issuers: Vec::new(),
        audiences: vec!["evergate".to_owned()],
        required: ["exp", "sub"].map(str::to_owned).into_iter().collect::<BTreeSet<_>>(),
        leeway: 60,
        claim: "evergate".to_owned(),
    })
}

/// Of all texts there are, the keys vouch for the one that was signed.
pub fn token(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let keys = KeySet::read(KEYS.as_bytes(), Origin::Private).expect("keys");
    let judged = verifier().verify(text, &keys, NOW);
    if judged.is_ok() {
        assert_eq!(text, TOKEN.trim_end(), "a forgery");
    }
}

/// Claims mean the same each time, and nobody is somebody after its end.
pub fn claims(data: &[u8]) {
    let verifier = verifier();
    let Ok(principal) = verifier.judge(data, NOW) else { return };
    assert_eq!(verifier.judge(data, NOW).as_ref(), Ok(&principal));
    let expires = principal.expires().expect("it is required");
    assert!(principal.subject().is_some() && expires + verifier.leeway() >= NOW);
    assert!(verifier.judge(data, expires + verifier.leeway() + 1).is_err(), "it has expired");
    assert!(principal.priority().get() <= 100);
}

/// Whoever publishes keys may write anything; a secret that is published is never believed.
pub fn keys(data: &[u8]) {
    let private = KeySet::read(data, Origin::Private);
    let public = KeySet::read(data, Origin::Public);
    if let Ok(public) = &public {
        assert!(!public.is_empty());
        if let Ok(private) = &private {
            assert!(public.len() <= private.len());
        }
    }
}

/// Events that are taken say the same when they are published once more as they were understood.
pub fn publish(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let one = evergate_edge::fuzzing::body(text, false);
    if let Some(events) = &one {
        assert_eq!(events.len(), 1, "an object is an event");
    }
    let lines = evergate_edge::fuzzing::body(text, true);
    for event in one.iter().chain(&lines).flatten() {
        let mut object = serde_json::json!({ "data": event.data });
        if let Some(kind) = &event.kind {
            object["type"] = kind.as_str().into();
        }
        if let Some(key) = &event.key {
            object["key"] = key.as_str().into();
        }
        if let Some(producer) = &event.producer {
            object["producer"] = serde_json::json!({ "id": producer.id.as_str(), "seq": producer.seq.get() });
        }
        let again = evergate_edge::fuzzing::body(&object.to_string(), false).expect("it was taken before");
        assert_eq!(again.as_slice(), std::slice::from_ref(event), "{object}");
    }
}

/// A message is written as one that is read the same, and what publishers and nodes say in it is taken or refused.
pub fn messages(data: &[u8]) {
    fn again<M: Message + Default>(data: &[u8]) -> Option<M> {
        let message = M::decode(data).ok()?;
        let written = message.encode_to_vec();
        let same = M::decode(written.as_slice()).expect("our own message can be read");
        assert_eq!(same.encode_to_vec(), written);
        Some(message)
    }
    let taken = evergate_edge::fuzzing::message(data);
    if let Some(request) = again::<publishing::PublishBatchRequest>(data) {
        assert!(taken.is_none_or(|events| events.len() == request.events.len()), "all or nothing");
    }
    again::<publishing::PublishStreamRequest>(data);
    again::<raft::AppendRequest>(data);
    again::<raft::InstallRequest>(data);
    again::<control::LeaseRequest>(data);
    if let Some(node) = again::<control::Node>(data) {
        let _ = evergate_member::decode_node(&node);
    }
}

/// Whatever a Redis says, the log takes it for what it is or says that it makes no sense.
pub fn replies(data: &[u8]) {
    evergate_eventlog::fuzzing::reply(data);
    evergate_eventlog::fuzzing::message(data);
}
