#!/bin/bash
# Packs what `make release` left in DIST: an archive with the executables, man pages, completions, licences and the files of deploy/, what it is made
# of (SBOM), and the checksums of all. The workflow .github/workflows/release.yml calls it, and so does `make release-check`.
#
#   scripts/release.sh DIST OUT
#
# The version is that of Cargo.toml; on a tag, the tag must name it. Needs cargo-cyclonedx for the SBOM; SBOM=no leaves it out.
set -euo pipefail
dist=$(realpath "${1:?usage: $0 DIST OUT}")
mkdir -p "${2:?usage: $0 DIST OUT}"
out=$(realpath "$2")
cd "$(dirname "$0")/.."

die() {
    echo "$*" >&2
    exit 1
}

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
said=$("$dist/l2-prover" --version)
[ "$said" = "l2-prover $version" ] || die "the executable says \"$said\", and Cargo.toml $version"
if [ -n "${TAG:-}" ] && [ "$TAG" != "v$version" ]; then die "the tag is $TAG, and Cargo.toml says $version"; fi
[ "$(sed -n 's/^appVersion: //p' deploy/helm/l2-prover/Chart.yaml)" = "$version" ] || die "deploy/helm/l2-prover/Chart.yaml is of another version"
if [ -n "${TAG:-}" ]; then grep -q "^## $version" CHANGELOG.md || die "CHANGELOG.md does not have $version"; fi

name=l2-prover-$version-$(uname -m)-linux
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/$name
mkdir -p "$root"/{bin,share/man/man1,share/bash-completion/completions,share/zsh/site-functions,share/fish/vendor_completions.d}
for executable in l2-prover l2-prover-bonsai l2-prover-risc0; do
    # A release without a zkVM (release-check where RISC Zero is not built) lacks the last one.
    if [ ! -e "$dist/$executable" ]; then
        [ "$executable" = l2-prover-risc0 ] && [ "${ZKVM:-yes}" = no ] || die "$dist/$executable is missing"
        continue
    fi
    [ -z "$(nm "$dist/$executable" 2>/dev/null)" ] || die "$executable has symbols: make release strips it"
    install -m 755 "$dist/$executable" "$root/bin/"
done
"$root/bin/l2-prover" man --out "$root/share/man/man1"
"$root/bin/l2-prover" completions bash >"$root/share/bash-completion/completions/l2-prover"
"$root/bin/l2-prover" completions zsh >"$root/share/zsh/site-functions/_l2-prover"
"$root/bin/l2-prover" completions fish >"$root/share/fish/vendor_completions.d/l2-prover.fish"
# As git has it: no secrets that secrets.sh made here.
git archive --prefix="$name/" HEAD deploy docs/alerts.yml crates/l2/.example.env LICENSE-APACHE LICENSE-MIT README.md CHANGELOG.md SECURITY.md guests/*/pinned/id.toml |
    tar -x -C "$folder"

# For whatever writes a time.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
if [ "${SBOM:-yes}" != no ]; then
    # Of what the executables link; written beside the manifest of each crate, and without the folder that this was built in.
    features=()
    if [ "${ZKVM:-yes}" != no ]; then features=(--features build_zkvm); fi
    cargo cyclonedx --quiet --manifest-path crates/l2/Cargo.toml --format json --no-build-deps "${features[@]}" --override-filename "$name.sbom"
    sed "s|$PWD|/l2-prover|g" "crates/l2/$name.sbom.json" >"$out/$name.cdx.json"
    # It writes one beside every crate of ours.
    find . -name "$name.sbom.json" -not -path './target/*' -delete
fi

# The same bytes from the same files: sorted, without owners, and with the commit's time.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$folder" -cf - "$name" | gzip -n -9 >"$out/$name.tar.gz"
(cd "$out" && sha256sum "$name".* >"$name.sha256.new" && mv "$name.sha256.new" SHA256SUMS && sha256sum --check --quiet SHA256SUMS)
echo "$out: $(cd "$out" && ls -1 | tr '\n' ' ')"
