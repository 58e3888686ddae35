//! The wallet that settles: a key in an encrypted file, or a remote signer. No key ever stands in a flag or a variable.

use crate::l1::{L1, L1Error, Rpc};
use alloy_consensus::{SignableTransaction, Signed, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_network::TxSigner;
use alloy_primitives::{Address, B256, Signature};
use alloy_provider::Web3Signer;
use alloy_signer_local::LocalSigner;
use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};
use url::Url;

/// How long a remote signer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalletError {
    /// The file of the key or of its password cannot be read.
    #[error("failed to read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no keystore, or the password is wrong.
    #[error("failed to decrypt the keystore {path}: {says}")]
    Keystore {
        /// The file.
        path: PathBuf,
        /// Why.
        says: String,
    },
    /// The remote signer cannot be reached at such an address.
    #[error("failed to use the remote signer")]
    Remote(#[source] L1Error),
    /// The signer failed.
    #[error("the wallet did not sign: {0}")]
    Failed(String),
    /// The signer signed something else, or with another key.
    #[error("the wallet signed {0}, which was not asked for: nothing of it is sent")]
    Other(&'static str),
}

/// Who signs.
pub struct Wallet {
    address: Address,
    signer: Signer,
}

enum Signer {
    Here(Box<dyn TxSigner<Signature> + Send + Sync>),
    Remote(Box<Rpc>),
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Wallet {
    /// A signer of alloy's, which may be local or not.
    pub fn new(signer: impl TxSigner<Signature> + Send + Sync + 'static) -> Self {
        Self { address: signer.address(), signer: Signer::Here(Box::new(signer)) }
    }

    /// The key in a keystore file, of which another file has the password. Blocks for a second.
    ///
    /// # Errors
    /// [`WalletError`].
    pub fn keystore(path: &Path, password: &Path) -> Result<Self, WalletError> {
        let file = |source| WalletError::File { path: password.into(), source };
        let password = std::fs::read_to_string(password).map_err(file)?;
        let password = password.strip_suffix('\n').unwrap_or(&password);
        let password = password.strip_suffix('\r').unwrap_or(password);
        let unread = |source| WalletError::File { path: path.into(), source };
        std::fs::File::open(path).map_err(unread)?;
        let signer = LocalSigner::decrypt_keystore(path, password);
        let fails = |says: String| {
            let wrong = says.contains("Mac Mismatch");
            let says = if wrong { "the password is wrong".to_owned() } else { says };
            WalletError::Keystore { path: path.into(), says }
        };
        Ok(Self::new(signer.map_err(|error| fails(error.to_string()))?))
    }

    /// A remote signer with the interface of web3signer, and the address of its key.
    ///
    /// # Errors
    /// [`WalletError::Remote`].
    pub fn remote(url: &Url, address: Address) -> Result<Self, WalletError> {
        let rpc = Rpc::http(url).map_err(WalletError::Remote)?;
        Ok(Self { address, signer: Signer::Remote(Box::new(rpc)) })
    }

    /// Its address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Signs a transaction: its hash and its bytes.
    ///
    /// # Errors
    /// [`WalletError`]. What is returned is this transaction, signed by this wallet, whatever the signer did.
    pub async fn sign(&self, tx: TxEip1559) -> Result<(B256, Vec<u8>), WalletError> {
        let signed = match tokio::time::timeout(PATIENCE, self.ask(tx.clone())).await {
            Ok(signed) => signed?,
            Err(_elapsed) => return Err(WalletError::Failed("no answer came".to_owned())),
        };
        let TxEnvelope::Eip1559(signed) = signed else {
            return Err(WalletError::Other("a transaction of another type"));
        };
        if *signed.tx() != tx {
            return Err(WalletError::Other("another transaction"));
        }
        // By the signature alone: no hash that the signer tells counts. Of the two that are as good, L1 takes only that with the lower s (EIP-2).
        let signature = *signed.signature();
        let signature = signature.normalize_s().unwrap_or(signature);
        let signed = Signed::new_unhashed(tx, signature);
        if !signed.recover_signer().is_ok_and(|signer| signer == self.address) {
            return Err(WalletError::Other("with another key"));
        }
        Ok((*signed.hash(), TxEnvelope::Eip1559(signed).encoded_2718()))
    }

    async fn ask(&self, mut tx: TxEip1559) -> Result<TxEnvelope, WalletError> {
        let failed = |error: &dyn fmt::Display| WalletError::Failed(error.to_string());
        match &self.signer {
            Signer::Here(signer) => {
                let signature = signer.sign_transaction(&mut tx).await;
                Ok(tx.into_signed(signature.map_err(|error| failed(&error))?).into())
            }
            Signer::Remote(rpc) => {
                let signer = Web3Signer::<_, L1>::new(rpc.provider(), self.address);
                let raw = signer.sign_transaction(tx.into()).await;
                let raw =
                    raw.map_err(|error| WalletError::Failed(rpc.quote(&error.to_string())))?;
                TxEnvelope::decode_2718_exact(&raw).map_err(|error| failed(&error))
            }
        }
    }
}
