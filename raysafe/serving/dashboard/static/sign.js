// Signs what stands in the page with the member's own Ed25519 key, in the browser; the key is sent nowhere.
const field = document.getElementById("key-file");
const told = document.getElementById("signing");

async function canSign() {
  try {
    await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
    return true;
  } catch {
    return false;
  }
}

function bytesOf(pem) {
  const body = pem.match(/-----BEGIN PRIVATE KEY-----([\sA-Za-z0-9+/=]+)-----END PRIVATE KEY-----/);
  if (!body) throw new Error("this file holds no private key");
  return Uint8Array.from(atob(body[1].replace(/\s/g, "")), (c) => c.charCodeAt(0));
}

async function sign() {
  told.textContent = "";
  if (!field.files.length) return;
  try {
    const key = await crypto.subtle.importKey("pkcs8", bytesOf(await field.files[0].text()), { name: "Ed25519" }, false, ["sign"]);
    const text = new TextEncoder().encode(document.getElementById("payload").value);
    const made = new Uint8Array(await crypto.subtle.sign({ name: "Ed25519" }, key, text));
    document.getElementById("signature").value = [...made].map((b) => b.toString(16).padStart(2, "0")).join("");
    told.textContent = "Signed. Submit sends the signature.";
  } catch (error) {
    told.textContent = `Not signed: ${error.message || "this is no Ed25519 key"}.`;
  }
}

if (globalThis.crypto?.subtle && (await canSign())) {
  document.getElementById("sign-here").hidden = false;
  field.addEventListener("change", sign);
}
