//! Round trips under any chunking, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;

use super::*;

fn to_helper() -> impl Strategy<Value = ToHelper> {
    let order = (
        any::<u64>(),
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec((".{0,12}", ".{0,20}"), 0..4),
        ".{0,20}",
        0u32..0o777,
        prop_oneof![Just(Shell::Detect), Just(Shell::Bash), Just(Shell::Sh)],
    );
    prop_oneof![
        any::<u64>().prop_map(|resume_from| ToHelper::Hello { resume_from }),
        order.prop_map(|(id, script, environment, directory, umask, shell)| {
            ToHelper::Stage(StageOrder {
                id,
                script,
                environment,
                directory,
                umask,
                shell,
            })
        }),
        any::<u64>().prop_map(|id| ToHelper::Cancel { id }),
        any::<u64>().prop_map(|seq| ToHelper::Ack { seq }),
        Just(ToHelper::End),
    ]
}

fn from_helper() -> impl Strategy<Value = FromHelper> {
    let stream = prop_oneof![Just(Stream::Out), Just(Stream::Err)];
    prop_oneof![
        (".{0,12}", any::<u64>(), any::<Option<u64>>()).prop_map(|(version, next_seq, running)| {
            FromHelper::Hello {
                version,
                next_seq,
                running,
            }
        }),
        (
            any::<u64>(),
            any::<u64>(),
            stream,
            prop::collection::vec(any::<u8>(), 0..200)
        )
            .prop_map(|(seq, stage, stream, bytes)| FromHelper::Output {
                seq,
                stage,
                stream,
                bytes
            }),
        (any::<u64>(), any::<u64>(), any::<i32>())
            .prop_map(|(seq, stage, code)| FromHelper::Exit { seq, stage, code }),
    ]
}

fn round_trip<F: Frame + PartialEq + std::fmt::Debug>(frames: &[F], chunk: usize) {
    let bytes: Vec<u8> = frames.iter().flat_map(|f| f.encode().unwrap()).collect();
    let mut decoder = Decoder::<F>::default();
    let mut got = Vec::new();
    for chunk in bytes.chunks(chunk) {
        decoder.push(chunk);
        while let Some(frame) = decoder.next_frame().unwrap() {
            got.push(frame);
        }
    }
    assert_eq!(got, frames);
    assert!(!decoder.is_partial());
}

proptest! {
    #[test]
    fn any_chunking_gives_the_manager_s_frames(
        frames in prop::collection::vec(to_helper(), 0..6), chunk in 1usize..300,
    ) {
        round_trip(&frames, chunk);
    }

    #[test]
    fn any_chunking_gives_the_helper_s_frames(
        frames in prop::collection::vec(from_helper(), 0..6), chunk in 1usize..300,
    ) {
        round_trip(&frames, chunk);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut decoder = Decoder::<ToHelper>::default();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_frame() {}
    }
}

fn one(line: &str) -> Result<Option<ToHelper>, FrameError> {
    let mut decoder = Decoder::default();
    decoder.push(line.as_bytes());
    decoder.next_frame()
}

#[test]
fn unknown_fields_and_blank_lines_are_tolerated() {
    let line = "\n\r\n{\"v\":1,\"kind\":\"ack\",\"seq\":7,\"later\":[1]}\r\n";
    assert_eq!(one(line).unwrap(), Some(ToHelper::Ack { seq: 7 }));
    let fewest = r#"{"v":1,"kind":"stage","id":1,"script":"eA=="}"#;
    assert!(
        matches!(one(&format!("{fewest}\n")), Ok(Some(ToHelper::Stage(order)))
        if order.script == b"x" && order.shell == Shell::Detect)
    );
}

#[test]
fn what_is_refused_is_named() {
    let cases = [
        (
            "{\"v\":1,\"kind\":\"dance\"}\n",
            "unknown frame kind \"dance\"",
        ),
        (
            "{\"v\":2,\"kind\":\"end\"}\n",
            "the other side speaks frame version 2, this side 1",
        ),
        (
            "{\"v\":1,\"kind\":\"ack\"}\n",
            "a frame is malformed (Data)",
        ),
        ("hello\n", "a frame is malformed (Syntax)"),
    ];
    for (line, expected) in cases {
        assert_eq!(one(line).unwrap_err().to_string(), expected, "{line}");
    }
}

#[test]
fn a_frame_beyond_the_cap_is_refused_on_both_sides() {
    let script = vec![0; MAX_FRAME];
    let order = StageOrder {
        id: 1,
        script,
        environment: Vec::new(),
        directory: String::new(),
        umask: 0,
        shell: Shell::Sh,
    };
    assert!(matches!(
        ToHelper::Stage(order).encode(),
        Err(FrameError::TooLong { .. })
    ));
    let endless = "x".repeat(MAX_FRAME + 1);
    assert!(matches!(one(&endless), Err(FrameError::TooLong { .. })));
    // It is told once, and what comes after it is read again.
    let mut decoder = Decoder::<ToHelper>::default();
    decoder.push(endless.as_bytes());
    assert!(decoder.next_frame().is_err());
    assert!(matches!(decoder.next_frame(), Ok(None)));
    decoder.push(b"the rest\n");
    assert!(matches!(decoder.next_frame(), Ok(None)));
    decoder.push(&ToHelper::Hello { resume_from: 1 }.encode().unwrap());
    assert!(matches!(
        decoder.next_frame(),
        Ok(Some(ToHelper::Hello { resume_from: 1 }))
    ));
}

#[test]
fn debug_shows_no_secret() {
    let order = StageOrder {
        id: 1,
        script: b"s3cret".to_vec(),
        environment: vec![("K".into(), "s3cret".into())],
        directory: String::new(),
        umask: 0,
        shell: Shell::Sh,
    };
    let shown = format!("{:?}", ToHelper::Stage(order));
    assert!(
        !shown.contains("s3cret") && !shown.contains("115"),
        "{shown}"
    );
}
