//! The guest's check of all senders at once, on the host: its sources, on an arithmetic that stands in for the circuit's.
//!
//! The stand-in refuses what the circuit has no proof for: a sum of points with the same x, the inverse of zero.

#![expect(unsafe_code, reason = "the circuit is called by pointers")]

mod crypto {
    pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
        use sha2::Digest as _;
        sha2::Sha256::digest(bytes).into()
    }
}
#[expect(
    dead_code,
    unreachable_pub,
    clippy::cast_possible_truncation,
    reason = "recovery is tested in the guest, whose lints are its own"
)]
#[path = "../../../guests/risc0/src/secp256k1.rs"]
mod secp256k1;
#[expect(
    unreachable_pub,
    clippy::cast_possible_truncation,
    reason = "the guest's lints are its own"
)]
#[path = "../../../guests/risc0/src/senders.rs"]
mod senders;

use alloy_primitives::{Address, B256, U256, uint};
use alloy_signer::k256::{
    self, AffinePoint, ProjectivePoint, Scalar,
    elliptic_curve::{
        PrimeField as _, ops::Reduce, point::AffineCoordinates as _, sec1::ToEncodedPoint as _,
    },
};
use alloy_signer_local::PrivateKeySigner;
use program::senders::{Claim, Hint};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

const PRIME: U256 = uint!(0xfffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f_U256);
const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);

/// A claim that owns its hint.
#[derive(Clone, Copy, Debug)]
struct Signed {
    message: B256,
    r: U256,
    s: U256,
    odd: bool,
    key: [U256; 2],
    y: U256,
}

impl Signed {
    /// The key `secret` signs with this nonce.
    fn new(secret: Scalar, nonce: Scalar, message: Scalar) -> Self {
        let point = (ProjectivePoint::GENERATOR * nonce).to_affine();
        let r = <Scalar as Reduce<k256::U256>>::reduce_bytes(&point.x());
        let s = nonce.invert().unwrap() * (message + r * secret);
        Self {
            message: number(message).into(),
            r: number(r),
            s: number(s),
            odd: bool::from(point.y_is_odd()),
            key: coordinates(ProjectivePoint::GENERATOR * secret),
            y: coordinates(point.into())[1],
        }
    }

    fn random(rng: &mut StdRng) -> Self {
        let [secret, nonce, message] = [(); 3].map(|()| random(rng));
        Self::new(secret, nonce, message)
    }

    /// The key, times this.
    fn with_key(self, key: ProjectivePoint) -> Self {
        Self { key: coordinates(key), ..self }
    }

    fn point(&self) -> ProjectivePoint {
        let [x, y] = self.key.map(|number| number.to_be_bytes::<32>());
        let point = k256::EncodedPoint::from_affine_coordinates(&x.into(), &y.into(), false);
        k256::PublicKey::try_from(point).unwrap().to_projective()
    }

    fn hint(&self) -> Hint {
        let [x, y] = self.key;
        [x, y, self.y].map(|number| number.to_be_bytes::<32>()).concat().try_into().unwrap()
    }

    /// The address of whoever signed, by libraries that have nothing to do with this one.
    fn recovered(&self) -> Option<Address> {
        let signature = alloy_primitives::Signature::new(self.r, self.s, self.odd);
        signature.recover_address_from_prehash(&self.message).ok()
    }
}

fn number(scalar: Scalar) -> U256 {
    U256::from_be_bytes(scalar.to_bytes().into())
}

fn scalar(number: U256) -> Scalar {
    Scalar::from_repr(number.to_be_bytes::<32>().into()).unwrap()
}

fn random(rng: &mut StdRng) -> Scalar {
    Scalar::from_repr(
        (U256::from_be_bytes(rng.random::<[u8; 32]>()) >> 1usize).to_be_bytes::<32>().into(),
    )
    .unwrap()
}

fn coordinates(point: ProjectivePoint) -> [U256; 2] {
    let point = AffinePoint::from(point).to_encoded_point(false);
    [point.x(), point.y()].map(|bytes| U256::from_be_slice(bytes.expect("not zero")))
}

fn with_claims<T>(signed: &[Signed], work: impl FnOnce(&[Claim<'_>]) -> T) -> T {
    let hints: Vec<Hint> = signed.iter().map(Signed::hint).collect();
    let claims: Vec<_> = signed
        .iter()
        .zip(&hints)
        .map(|(signed, hint)| {
            let Signed { message, r, s, odd, .. } = *signed;
            Claim { message, r, s, odd, hint }
        })
        .collect();
    work(&claims)
}

fn check(signed: &[Signed]) -> Option<Vec<Address>> {
    with_claims(signed, senders::check)
}

#[track_caller]
fn accepted(signed: &[Signed]) {
    let recovered: Option<Vec<Address>> = signed.iter().map(Signed::recovered).collect();
    assert_eq!(check(signed), Some(recovered.expect("they are valid")));
}

#[track_caller]
fn refused(signed: &[Signed]) {
    assert_eq!(check(signed), None);
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(191)
}

fn batch(rng: &mut StdRng, len: usize) -> Vec<Signed> {
    (0..len).map(|_| Signed::random(rng)).collect()
}

#[test]
fn batches_of_every_length_have_the_senders_that_recovery_finds() {
    let rng = &mut rng();
    assert_eq!(check(&[]), Some(Vec::new()));
    for len in (1..10).chain([30, 60, 200]) {
        accepted(&batch(rng, len));
    }
}

#[test]
fn signatures_of_a_wallet_are_accepted() {
    use alloy_signer::SignerSync as _;
    let rng = &mut rng();
    let signer = PrivateKeySigner::from_slice(&rng.random::<[u8; 32]>()).unwrap();
    let mut signed = batch(rng, 2);
    for _ in 0..20 {
        let message = B256::from(rng.random::<[u8; 32]>());
        let signature = signer.sign_hash_sync(&message).unwrap();
        let prefix = 2 + u8::from(signature.v());
        let nonce = [[prefix].as_slice(), &signature.r().to_be_bytes::<32>()].concat();
        let nonce = k256::PublicKey::from_sec1_bytes(&nonce).unwrap().to_projective();
        let key = signer.credential().verifying_key().as_affine();
        signed.push(Signed {
            message,
            r: signature.r(),
            s: signature.s(),
            odd: signature.v(),
            key: coordinates((*key).into()),
            y: coordinates(nonce)[1],
        });
    }
    signed.shuffle(rng);
    accepted(&signed);
    assert!(check(&signed).unwrap().contains(&signer.address()));
}

#[test]
fn one_false_claim_among_many_is_refused() {
    let rng = &mut rng();
    for len in [1, 2, 3, 20] {
        let honest = batch(rng, len);
        accepted(&honest);
        let other = Signed::random(rng);
        let g = ProjectivePoint::GENERATOR;
        for at in 0..len {
            let was = honest[at];
            let minus = |y: U256| PRIME - y;
            let message = |change: U256| B256::from(U256::from_be_bytes(was.message.0) ^ change);
            let forgeries = [
                Signed { message: message(U256::ONE), ..was },
                Signed { message: message(U256::ONE << 200), ..was },
                Signed { message: other.message, ..was },
                Signed { s: ORDER - was.s, ..was },
                Signed { s: other.s, ..was },
                Signed { s: was.s ^ U256::ONE, ..was },
                Signed { odd: !was.odd, ..was },
                Signed { odd: !was.odd, y: minus(was.y), ..was },
                Signed { r: other.r, ..was },
                Signed { r: other.r, y: other.y, odd: other.odd, ..was },
                Signed { key: other.key, ..was },
                Signed { key: [was.key[0], minus(was.key[1])], ..was },
                was.with_key(was.point() + g),
                was.with_key(was.point().double()),
                was.with_key(g),
                Signed { key: other.key, message: other.message, ..was },
            ];
            for (index, forged) in forgeries.into_iter().enumerate() {
                let mut signed = honest.clone();
                signed[at] = forged;
                assert_eq!(check(&signed), None, "forgery {index} at {at} of {len}");
            }
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let rng = &mut rng();
    let honest = batch(rng, 3);
    let was = honest[1];
    let [x, y] = was.key;
    // A point whose coordinates are so small that they can be written in another way.
    let small = uint!(1_U256);
    let small_y = root(small * small * small + U256::from(7)).unwrap();
    let mut cases = vec![
        Signed { key: [U256::ZERO; 2], ..was },
        Signed { key: [U256::ZERO; 2], y: U256::ZERO, ..was },
        Signed { key: [U256::ZERO, y], ..was },
        Signed { key: [x, U256::ZERO], ..was },
        Signed { key: [PRIME, y], ..was },
        Signed { key: [x, PRIME], ..was },
        Signed { key: [U256::MAX; 2], ..was },
        Signed { key: [PRIME + small, small_y], ..was },
        Signed { key: [y, x], ..was },
        Signed { y: U256::ZERO, ..was },
        Signed { y: PRIME, ..was },
        Signed { y: U256::MAX, ..was },
        Signed { y: was.y ^ U256::from(2), ..was },
        Signed { y: x, ..was },
    ];
    for value in [U256::ZERO, ORDER, ORDER + U256::ONE, PRIME, PRIME + U256::ONE, U256::MAX] {
        cases.push(Signed { r: value, ..was });
        cases.push(Signed { s: value, ..was });
    }
    for forged in cases {
        for at in 0..3 {
            let mut signed = honest.clone();
            signed[at] = forged;
            refused(&signed);
        }
    }
}

#[test]
fn a_number_written_in_another_way_is_refused() {
    let rng = &mut rng();
    let honest = batch(rng, 2);
    let accepts = |signed: Signed| {
        accepted(&[signed]);
        accepted(&[honest[0], signed, honest[1]]);
    };
    let refuses = |signed: Signed| {
        refused(&[signed]);
        refused(&[honest[0], signed, honest[1]]);
    };
    let g = ProjectivePoint::GENERATOR;
    // A small s: the message is made for it.
    let (secret, nonce, small) = (random(rng), random(rng), U256::from(5));
    let r = scalar(Signed::new(secret, nonce, Scalar::ONE).r);
    let signed = Signed::new(secret, nonce, nonce * scalar(small) - r * secret);
    assert_eq!(signed.s, small);
    accepts(signed);
    refuses(Signed { s: ORDER + small, ..signed });
    // A small r, whose nonce nobody knows: the key is made for it.
    let y = root(U256::from(8)).unwrap();
    let was = Signed { r: U256::ONE, y, odd: y.bit(0), ..honest[0] };
    let nonce = Signed { key: [U256::ONE, y], ..was }.point();
    let key =
        nonce * scalar(was.s) - g * scalar(U256::from_be_bytes(was.message.0).reduce_mod(ORDER));
    let signed = was.with_key(key);
    accepts(signed);
    refuses(Signed { r: ORDER + U256::ONE, ..signed });
    // A key with a small x, whose secret nobody knows: the signature is made for it.
    let key = nonce;
    let [of_g, of_key] = [random(rng), random(rng)];
    let [x, y] = coordinates(g * of_g + key * of_key);
    let r = scalar(x.reduce_mod(ORDER));
    let s = r * of_key.invert().unwrap();
    let signed = Signed {
        message: number(of_g * s).into(),
        r: number(r),
        s: number(s),
        odd: y.bit(0),
        y,
        ..honest[0]
    }
    .with_key(key);
    accepts(signed);
    let [x, y] = signed.key;
    refuses(Signed { key: [x + PRIME, y], ..signed });
    // A message is a number modulo the order, as it is for recovery.
    let message = scalar(U256::from(3));
    let signed = Signed::new(secret, random(rng), message);
    accepts(signed);
    accepts(Signed { message: (ORDER + U256::from(3)).into(), ..signed });
}

#[test]
fn what_is_not_on_the_curve_is_refused() {
    let rng = &mut rng();
    let honest = batch(rng, 4);
    let was = honest[2];
    // Points of the curves with another constant, among them those with small groups.
    let mut found = 0;
    for b in 0..40 {
        for x in 1..6 {
            let x = U256::from(x);
            let square = x * x * x + U256::from(b);
            let Some(y) = root(square).filter(|_| b != 7) else { continue };
            found += 1;
            let mut signed = honest.clone();
            signed[2] = Signed { key: [x, y], ..was };
            refused(&signed);
            // The same x twice, and the same key for all.
            signed[1] = Signed { key: [x, PRIME - y], ..honest[1] };
            refused(&signed);
            signed.iter_mut().for_each(|signed| signed.key = [x, y]);
            refused(&signed);
        }
    }
    assert!(found > 60);
    // No point has this x, whatever its y is said to be.
    let mut r = was.r;
    while root(r.mul_mod(r, PRIME).mul_mod(r, PRIME).add_mod(U256::from(7), PRIME)).is_some() {
        r += U256::ONE;
    }
    for y in [was.y, U256::ONE, U256::from(2), PRIME - U256::ONE] {
        for odd in [false, true] {
            let mut signed = honest.clone();
            signed[2] = Signed { r, y, odd, ..was };
            refused(&signed);
        }
    }
}

#[test]
fn keys_and_signatures_swapped_among_claims_are_refused() {
    let rng = &mut rng();
    let honest = batch(rng, 8);
    for (a, b) in [(0, 1), (0, 7), (3, 4)] {
        let mut signed = honest.clone();
        (signed[a].key, signed[b].key) = (honest[b].key, honest[a].key);
        refused(&signed);
        let mut signed = honest.clone();
        (signed[a].message, signed[b].message) = (honest[b].message, honest[a].message);
        refused(&signed);
        let mut signed = honest.clone();
        (signed[a].s, signed[b].s) = (honest[b].s, honest[a].s);
        refused(&signed);
        let mut signed = honest.clone();
        signed.swap(a, b);
        accepted(&signed);
    }
}

#[test]
fn points_that_meet_in_the_sum_are_added_rightly() {
    let rng = &mut rng();
    let one = Scalar::ONE;
    let (secret, nonce) = (random(rng), random(rng));
    let mut message = || random(rng);
    let signed = Signed::new(secret, nonce, message());
    let lambda =
        scalar(uint!(0x5363ad4cc05c30e0a5261c028812645a122e22ea20816678df02967c1b23bd72_U256));
    let small = |number: u64| Scalar::from(number);
    let cases = vec![
        // The key is the generator, its negative, its image, a small multiple; so is the nonce point.
        vec![Signed::new(one, nonce, message())],
        vec![Signed::new(-one, nonce, message())],
        vec![Signed::new(lambda, nonce, message())],
        vec![Signed::new(secret, one, message())],
        vec![Signed::new(secret, -one, message())],
        vec![Signed::new(one, one, message())],
        vec![Signed::new(-one, one, message())],
        vec![Signed::new(one, lambda, message())],
        vec![
            Signed::new(small(2), small(3), message()),
            Signed::new(small(4), small(5), message()),
        ],
        // The key is the nonce point, or its negative, or its image.
        vec![Signed::new(nonce, nonce, message())],
        vec![Signed::new(-nonce, nonce, message())],
        vec![Signed::new(nonce * lambda, nonce, message())],
        // A message of zero, and one that cancels the key's part.
        vec![Signed::new(secret, nonce, Scalar::ZERO)],
        vec![signed, Signed::new(secret, nonce, Scalar::ZERO)],
        // The same signature again and again; the same key; opposite keys and nonces.
        vec![signed; 2],
        vec![signed; 70],
        vec![signed, Signed::new(secret, message(), message())],
        vec![signed, Signed::new(-secret, message(), message())],
        vec![signed, Signed::new(secret, nonce, message())],
        vec![signed, Signed::new(secret, -nonce, message())],
        vec![signed, Signed::new(-secret, -nonce, message())],
        vec![signed, Signed::new(secret * lambda, nonce * lambda, message())],
    ];
    for mut signed in cases {
        accepted(&signed);
        // Together with others, and not if one is wrong.
        let at = signed.len();
        signed.push(Signed::new(message(), message(), message()));
        accepted(&signed);
        for at in [0, at] {
            let mut signed = signed.clone();
            let error = ProjectivePoint::GENERATOR * message();
            signed[at] = signed[at].with_key(signed[at].point() + error);
            refused(&signed);
        }
    }
}

/// What makes the sum of false equations zero for anybody who knows the coefficients before he chooses.
#[test]
fn errors_that_cancel_are_refused() {
    let rng = &mut rng();
    let secrets = [(); 4].map(|()| [(); 3].map(|()| random(rng)));
    let honest: Vec<Signed> = secrets
        .iter()
        .map(|[secret, nonce, message]| Signed::new(*secret, *nonce, *message))
        .collect();
    let seed = crypto::sha256(&with_claims(&honest, senders::transcript));
    let known = |index| {
        let bytes = *senders::coefficient(&seed, index).as_bigint();
        scalar(U256::from_le_slice(bytes.as_le_bytes()))
    };
    let error = random(rng);
    let g = ProjectivePoint::GENERATOR;
    for (a, b) in [(0, 1), (1, 2), (3, 1)] {
        let minus = -(known(a) * known(b).invert().unwrap());
        // All equations weigh the same; the weights are those of the honest claims.
        for [first, second] in [[error, -error], [error, error * minus]] {
            let mut keys = honest.clone();
            let mut messages = honest.clone();
            let mut halves = honest.clone();
            for (at, error) in [(a, first), (b, second)] {
                let (s, r) = (scalar(honest[at].s), scalar(honest[at].r));
                let of_r = s * r.invert().unwrap();
                keys[at] = keys[at].with_key(keys[at].point() + g * (error * of_r));
                messages[at].message = number(secrets[at][2] + s * error).into();
                let of_nonce = error * secrets[at][1].invert().unwrap();
                halves[at].s = number(
                    (s.invert().unwrap() + of_nonce * s.invert().unwrap()).invert().unwrap(),
                );
            }
            refused(&keys);
            refused(&messages);
            refused(&halves);
        }
    }
}

#[test]
fn the_coefficients_depend_on_everything() {
    let rng = &mut rng();
    let honest = batch(rng, 3);
    let transcript = |signed: &[Signed]| with_claims(signed, senders::transcript);
    let was = transcript(&honest);
    let other = Signed::random(rng);
    for at in 0..3 {
        let [x, y] = honest[at].key;
        for changed in [
            Signed { message: other.message, ..honest[at] },
            Signed { r: other.r, ..honest[at] },
            Signed { s: other.s, ..honest[at] },
            Signed { odd: !honest[at].odd, ..honest[at] },
            Signed { key: [other.key[0], y], ..honest[at] },
            Signed { key: [x, other.key[1]], ..honest[at] },
        ] {
            let mut signed = honest.clone();
            signed[at] = changed;
            assert_ne!(transcript(&signed), was);
        }
    }
    assert_ne!(transcript(&honest[..2]), was);
    let seed = crypto::sha256(&was);
    let coefficients: Vec<_> = (0..4).map(|index| senders::coefficient(&seed, index)).collect();
    for (index, coefficient) in coefficients.iter().enumerate().skip(1) {
        assert!((100..=128).contains(&coefficient.as_bigint().bit_len()));
        assert!(!coefficients[..index].contains(coefficient));
    }
}

/// A root modulo the prime of the coordinates.
fn root(square: U256) -> Option<U256> {
    let root = square.pow_mod((PRIME + U256::ONE) >> 2usize, PRIME);
    (root.mul_mod(root, PRIME) == square.reduce_mod(PRIME)).then_some(root)
}

/// What the big-integer circuit proves, computed.
mod circuit {
    use alloy_primitives::U256;

    /// Lengths of the programs that check a sum, a difference, a product, an inverse, and points.
    const ADD: u32 = 0x18;
    const SUB: u32 = 0x1a;
    const MUL: u32 = 0x20;
    const INVERSE: u32 = 0x29;
    const POINTS: u32 = 0x8b;
    const DOUBLE: u32 = 0x7e;

    fn program(blob: *const u32) -> u32 {
        // SAFETY: a program starts with four lengths.
        unsafe { blob.add(1).read() }
    }

    fn read<const N: usize>(at: *const u32) -> [U256; N] {
        // SAFETY: the caller knows how many numbers there are.
        let words = unsafe { std::slice::from_raw_parts(at, 8 * N) };
        std::array::from_fn(|index| {
            let bytes: Vec<u8> =
                words[8 * index..][..8].iter().flat_map(|word| word.to_le_bytes()).collect();
            U256::from_le_slice(&bytes)
        })
    }

    fn write(at: *mut u32, numbers: &[U256]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes::<32>()).collect();
        for (index, word) in bytes.as_chunks().0.iter().enumerate() {
            // SAFETY: the caller knows how many numbers there are.
            unsafe { at.add(index).write(u32::from_le_bytes(*word)) };
        }
    }

    fn minus(a: U256, b: U256, p: U256) -> U256 {
        a.add_mod(p - b.reduce_mod(p), p)
    }

    fn inverse(a: U256, p: U256) -> U256 {
        a.reduce_mod(p).inv_mod(p).expect("the circuit has no proof")
    }

    fn third(slope: U256, a: [U256; 2], x: U256, p: U256) -> [U256; 2] {
        let x = minus(minus(slope.mul_mod(slope, p), a[0], p), x, p);
        [x, minus(slope.mul_mod(minus(a[0], x, p), p), a[1], p)]
    }

    #[unsafe(no_mangle)]
    extern "C" fn sys_bigint2_3(blob: *const u32, a: *const u32, b: *const u32, out: *mut u32) {
        match program(blob) {
            INVERSE => {
                let ([a], [p]) = (read(a), read(b));
                write(out, &[inverse(a, p)]);
            }
            DOUBLE => {
                let ([x, y], [p, a, _]) = (read(a), read(b));
                let three = x.mul_mod(x, p).mul_mod(U256::from(3), p).add_mod(a, p);
                let slope = three.mul_mod(inverse(y.add_mod(y, p), p), p);
                write(out, &third(slope, [x, y], x, p));
            }
            other => panic!("unknown program {other:#x}"),
        }
    }

    #[unsafe(no_mangle)]
    extern "C" fn sys_bigint2_4(
        blob: *const u32,
        a: *const u32,
        b: *const u32,
        c: *const u32,
        out: *mut u32,
    ) {
        if program(blob) == POINTS {
            let ([x1, y1], [x2, y2], [p]) = (read(a), read(b), read(c));
            let slope = minus(y2, y1, p).mul_mod(inverse(minus(x2, x1, p), p), p);
            return write(out, &third(slope, [x1, y1], x2, p));
        }
        let ([a], [b], [p]) = (read(a), read(b), read(c));
        let result = match program(blob) {
            ADD => a.add_mod(b, p),
            SUB => minus(a, b, p),
            MUL => a.mul_mod(b, p),
            other => panic!("unknown program {other:#x}"),
        };
        write(out, &[result]);
    }

    #[unsafe(no_mangle)]
    extern "C" fn sys_bigint2_5() {
        panic!("unknown program");
    }
}
