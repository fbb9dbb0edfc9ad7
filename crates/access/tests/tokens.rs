//! Tokens that are taken, and everything that somebody might try instead.

#![allow(clippy::wildcard_enum_match_arm, reason = "a test need not name what it does not test")]

mod signing;

use evergate_access::{Algorithm, KeySet, Origin, Principal, Refusal, Rules, Verifier};
use evergate_domain::{ClientId, Key, KeyFilter, StreamName};
use proptest::prelude::*;
use signing::{Signer, base64};

const NOW: u64 = 1_000_000;

const CLAIMS: &str = r#"{"iss":"https://issuer.example","aud":"evergate","sub":"alice","jti":"t1",
    "exp":1000600,"nbf":999000,"evergate":{"subscribe":["quote/A*","news.*"],"publish":["orders"],
    "client_id":"alice/*","priority":7}}"#;

fn rules() -> Rules {
    Rules {
        issuers: vec!["https://issuer.example".to_owned()],
        audiences: vec!["evergate".to_owned()],
        required: ["exp", "sub"].map(str::to_owned).into(),
        leeway: 30,
        claim: "evergate".to_owned(),
    }
}

fn set(keys: &[&Signer]) -> KeySet {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    KeySet::read(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes(), Origin::Private).expect("a set")
}

fn verify(token: &str, keys: &KeySet) -> Result<Principal, Refusal> {
    Verifier::new(rules()).verify(token, keys, NOW)
}

const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Rs256,
    Algorithm::Ps256,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

#[test]
fn a_good_token_says_who_comes_and_what_it_may() {
    for algorithm in ALGORITHMS {
        let signer = Signer::new(algorithm);
        let alice = verify(&signer.token(CLAIMS), &set(&[&signer]));
        let alice = alice.unwrap_or_else(|refusal| panic!("{algorithm:?}: {refusal:?}"));
        assert_eq!((alice.subject(), alice.token_id()), (Some("alice"), Some("t1")));
        assert_eq!((alice.expires(), alice.priority().get()), (Some(1_000_600), 7));
        let client = |id| ClientId::new(id).expect("valid");
        assert!(alice.client().is_some_and(|own| own.matches(&client("alice/phone"))));
        let stream = |name| StreamName::new(name).expect("valid");
        assert!(alice.grants().subscribe(&stream("news.uk"), &KeyFilter::all()).is_some());
        assert!(alice.grants().subscribe(&stream("orders"), &KeyFilter::all()).is_none());
        assert!(alice.publishes(&stream("orders"), Some(&Key::new("x").expect("valid"))));
    }
}

#[test]
fn a_key_vouches_only_by_its_own_algorithm() {
    let signers = ALGORITHMS.map(Signer::new);
    for key in &signers {
        for other in &signers {
            if key.algorithm() == other.algorithm() {
                continue;
            }
            // Signed by the other key, and naming this one.
            let (kid, alg) = (key.algorithm().as_str(), other.algorithm().as_str());
            let token = other.sign(&format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#), CLAIMS);
            assert_eq!(verify(&token, &set(&[key])), Err(Refusal::Algorithm), "{alg} for {kid}");
            // Saying that it was signed by this one's algorithm.
            let token = other.sign(&format!(r#"{{"alg":"{kid}","kid":"{kid}"}}"#), CLAIMS);
            assert_eq!(verify(&token, &set(&[key])), Err(Refusal::Signature), "{alg} as {kid}");
        }
    }
}

#[test]
fn the_public_half_of_a_key_is_no_secret_to_sign_with() {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let key = Signer::new(algorithm);
        let published = key.jwk();
        let kid = algorithm.as_str();
        let forger = Signer::Hmac(Algorithm::Hs256, published.clone().into_bytes());
        let token = forger.sign(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), CLAIMS);
        assert_eq!(verify(&token, &set(&[&key])), Err(Refusal::Algorithm));
        let token = forger.sign(r#"{"alg":"HS256"}"#, CLAIMS);
        assert_eq!(verify(&token, &set(&[&key])), Err(Refusal::UnknownKey));
    }
}

#[test]
fn a_header_decides_nothing() {
    let key = Signer::new(Algorithm::Es256);
    let forger = Signer::new(Algorithm::Es256);
    let keys = set(&[&key]);
    let sign = |header: &str| verify(&key.sign(header, CLAIMS), &keys);
    let forge = |header: &str| verify(&forger.sign(header, CLAIMS), &keys);
    let jwk = forger.jwk();
    // The forger's own key comes along, in every way there is.
    for more in [
        format!(r#""jwk":{jwk}"#),
        r#""jku":"https://evil.example/keys""#.to_owned(),
        r#""x5u":"https://evil.example/cert""#.to_owned(),
        r#""x5c":["AAAA"]"#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"ES256",{more}}}"#);
        assert_eq!(forge(&header), Err(Refusal::Signature), "{more}");
        assert!(sign(&header).is_ok(), "an issuer that always writes it is not shut out: {more}");
    }
    for (header, refusal) in [
        (r#"{"alg":"none"}"#, Refusal::Algorithm),
        (r#"{"alg":"None","kid":"ES256"}"#, Refusal::Algorithm),
        (r#"{"alg":"es256","kid":"ES256"}"#, Refusal::Algorithm),
        (r#"{"alg":"","kid":"ES256"}"#, Refusal::Algorithm),
        (r#"{"kid":"ES256"}"#, Refusal::Algorithm),
        (r#"{"alg":["ES256"],"kid":"ES256"}"#, Refusal::Malformed("its header is no JWT's")),
        (r#"{"alg":"ES256","alg":"none"}"#, Refusal::Malformed("its header is no JSON object")),
        (r#"{"alg":"ES256","kid":"ES256","crit":["exp"],"exp":1}"#, Refusal::Unsupported),
        (r#"{"alg":"ES256","kid":"ES256","crit":[]}"#, Refusal::Unsupported),
        (r#"{"alg":"ES256","kid":"ES256","b64":false}"#, Refusal::Unsupported),
        (r#"{"alg":"ES256","kid":"ES256","zip":"DEF"}"#, Refusal::Unsupported),
        (r#"{"alg":"ES256","kid":"ES256","enc":"A128GCM"}"#, Refusal::Unsupported),
        (r#"{"alg":"ES256","kid":"ES256","typ":"logout+jwt"}"#, Refusal::Unsupported),
        (r#"{"alg":"ES256","kid":"ES256","typ":"JWE"}"#, Refusal::Unsupported),
        (r#"{"alg":"ES256","kid":"../../etc/passwd"}"#, Refusal::UnknownKey),
        (r#"{"alg":"ES256","kid":"' OR 1=1"}"#, Refusal::UnknownKey),
        (r#"{"alg":"ES256","kid":""}"#, Refusal::UnknownKey),
        (r#"{"alg":"ES256","kid":7}"#, Refusal::Malformed("its header is no JWT's")),
        ("7", Refusal::Malformed("its header is no JSON object")),
    ] {
        assert_eq!(sign(header), Err(refusal), "{header}");
        // Whoever did not sign learns no more.
        assert_eq!(forge(header), Err(refusal), "{header}");
    }
    for typ in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
        assert!(sign(&format!(r#"{{"alg":"ES256","kid":"ES256","typ":"{typ}"}}"#)).is_ok(), "{typ}");
    }
}

#[test]
fn without_a_signature_there_is_no_token() {
    for algorithm in ALGORITHMS {
        let key = Signer::new(algorithm);
        let keys = set(&[&key]);
        let token = key.token(CLAIMS);
        let (signed, signature) = token.rsplit_once('.').expect("three parts");
        let bytes = signature.len() * 3 / 4;
        for forged in ["".to_owned(), base64([0]), base64(vec![0; bytes]), base64(vec![0xff; bytes])] {
            let refusal = verify(&format!("{signed}.{forged}"), &keys);
            assert_eq!(refusal, Err(Refusal::Signature), "{}: {forged}", algorithm.as_str());
        }
        // The signature of another token.
        let other = key.token(&CLAIMS.replace("alice", "mallory"));
        let (other, _) = other.rsplit_once('.').expect("three parts");
        assert_eq!(verify(&format!("{other}.{signature}"), &keys), Err(Refusal::Signature));
    }
}

#[test]
fn a_token_has_one_spelling_and_an_end() {
    let key = Signer::new(Algorithm::Hs256);
    let keys = set(&[&key]);
    let token = key.token(CLAIMS);
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("three parts") };
    for forged in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{claims}"),
        format!("{token}."),
        format!("{token}.{signature}"),
        format!("{token}="),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{header}.{claims}.{signature}\0"),
        format!("{header}.{claims}.+{}", &signature[1..]),
        format!("{header}..{signature}"),
        token.replace('.', ".."),
    ] {
        assert!(verify(&forged, &keys).is_err(), "{forged:?}");
    }
    let long = key.token(&CLAIMS.replace("alice", &"a".repeat(8000)));
    assert_eq!(verify(&long, &keys), Err(Refusal::TooLong));
    let header = format!(r#"{{"alg":"HS256","kid":"HS256","x":"{}"}}"#, "x".repeat(2000));
    assert_eq!(verify(&key.sign(&header, CLAIMS), &keys), Err(Refusal::TooLong));
    let deep = format!(r#"{{"alg":"HS256","x":{}1{}}}"#, "[".repeat(700), "]".repeat(700));
    assert!(matches!(verify(&key.sign(&deep, CLAIMS), &keys), Err(Refusal::Malformed(_))));
}

#[test]
fn claims_are_held_to_their_meaning() {
    let key = Signer::new(Algorithm::Hs256);
    let keys = set(&[&key]);
    let with = |from: &str, to: &str| {
        assert!(CLAIMS.contains(from), "{from}");
        verify(&key.token(&CLAIMS.replace(from, to)), &keys).err()
    };
    for (from, to, refusal) in [
        ("https://issuer.example", "https://issuer.example/", Refusal::Issuer),
        (r#""iss":"https://issuer.example","#, "", Refusal::Issuer),
        (r#""iss":"https://issuer.example""#, r#""iss":["https://issuer.example"]"#, Refusal::Issuer),
        (r#""aud":"evergate""#, r#""aud":"other""#, Refusal::Audience),
        (r#""aud":"evergate""#, r#""aud":["other",7]"#, Refusal::Audience),
        (r#""aud":"evergate""#, r#""aud":[]"#, Refusal::Audience),
        (r#""aud":"evergate","#, "", Refusal::Audience),
        (r#""sub":"alice","#, "", Refusal::Incomplete),
        (r#""exp":1000600,"#, "", Refusal::Incomplete),
        (r#""sub":"alice""#, r#""sub":7"#, Refusal::Claim("sub")),
        (r#""sub":"alice""#, r#""sub":"""#, Refusal::Claim("sub")),
        ("1000600", "999970", Refusal::Expired),
        ("1000600", r#""1000600""#, Refusal::Claim("exp")),
        ("1000600", "-1", Refusal::Claim("exp")),
        ("1000600", "1e300", Refusal::Claim("exp")),
        ("1000600", "null", Refusal::Claim("exp")),
        ("999000", "1000031", Refusal::Early),
        ("999000", r#"true"#, Refusal::Claim("nbf")),
        (r#""jti":"t1""#, r#""jti":"t1","sub":"bob""#, Refusal::Malformed("its claims are no JSON object")),
        (r#""quote/A*""#, r#""quote/A*B""#, Refusal::Claim("subscribe")),
        (r#"["orders"]"#, r#""orders""#, Refusal::Claim("publish")),
        (r#"["orders"]"#, "[7]", Refusal::Claim("publish")),
        (r#""alice/*""#, r#""*""#, Refusal::Claim("client_id")),
        (r#""priority":7"#, r#""priority":101"#, Refusal::Claim("priority")),
        (r#""priority":7"#, r#""priority":-1"#, Refusal::Claim("priority")),
        (r#"{"subscribe"#, r#"[],"x":{"subscribe"#, Refusal::Claim("of this server")),
    ] {
        assert_eq!(with(from, to), Some(refusal), "{to}");
    }
    assert_eq!(with("1000600", "999970.9"), None, "within the leeway, to the fraction");
    assert_eq!(with(r#""aud":"evergate""#, r#""aud":["other","evergate"]"#), None);
    assert_eq!(with("999000", "1000030"), None, "within the leeway");
}

#[test]
fn a_token_for_somebody_is_not_for_whoever_did_not_say_its_name() {
    let key = Signer::new(Algorithm::Hs256);
    let keys = set(&[&key]);
    let nobody = Verifier::new(Rules { audiences: Vec::new(), ..rules() });
    assert_eq!(nobody.verify(&key.token(CLAIMS), &keys, NOW), Err(Refusal::Audience));
    let open = CLAIMS.replace(r#""aud":"evergate","#, "");
    assert!(nobody.verify(&key.token(&open), &keys, NOW).is_ok());
}

#[test]
fn a_token_that_names_no_key_means_the_only_one() {
    let (a, b) = (Signer::new(Algorithm::Es256), Signer::new(Algorithm::EdDsa));
    let unnamed = a.sign(r#"{"alg":"ES256"}"#, CLAIMS);
    assert!(verify(&unnamed, &set(&[&a, &b])).is_ok());
    let twice = Signer::new(Algorithm::Es256);
    assert_eq!(verify(&unnamed, &set(&[&a, &twice])), Err(Refusal::UnknownKey));
    assert_eq!(verify(&unnamed, &set(&[&b])), Err(Refusal::UnknownKey));
    assert!(Refusal::UnknownKey.is_news() && !Refusal::Signature.is_news());
    assert_eq!(verify(&unnamed, &KeySet::default()), Err(Refusal::UnknownKey));
}

#[test]
fn what_is_said_of_a_refusal_repeats_nothing_of_the_token() {
    let key = Signer::new(Algorithm::Hs256);
    let token = key.token(&CLAIMS.replace("1000600", "\"s3cret\\r\\nx: y\""));
    let refusal = verify(&token, &set(&[&key])).expect_err("no date");
    assert!(!format!("{refusal} {refusal:?} {}", refusal.reason()).contains("s3cret"));
}

fn token_of(algorithm: Algorithm) -> (String, KeySet) {
    let key = Signer::new(algorithm);
    (key.token(CLAIMS), set(&[&key]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// No token that differs in a single character is the same token.
    #[test]
    fn no_other_spelling_is_taken(at in 0_usize..1000, to in "[A-Za-z0-9_.=-]", choice in 0_usize..8) {
        let (token, keys) = token_of(ALGORITHMS[choice]);
        prop_assert!(verify(&token, &keys).is_ok());
        let at = at % token.len();
        let mut changed = token.clone();
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != token);
        prop_assert!(verify(&changed, &keys).is_err());
    }

    /// Nothing that arrives makes us fail in another way than by a refusal.
    #[test]
    fn anything_may_arrive(text in ".{0,200}", header in ".{0,80}", claims in ".{0,80}") {
        let key = Signer::Hmac(Algorithm::Hs256, vec![7; 64]);
        let keys = set(&[&key]);
        prop_assert!(verify(&text, &keys).is_err());
        prop_assert!(verify(&key.sign(&header, CLAIMS), &keys).is_err());
        prop_assert!(verify(&key.token(&claims), &keys).is_err());
    }
}
