// Pages of `tools.book.slider_page`: pictures and value follow the choices, the slider uncovers the answer.
const values = JSON.parse(document.getElementById("values").textContent);
const slider = document.querySelector(".slider");
const picks = [...document.querySelectorAll("select[id^='pick-']")];
const filled = (text) => picks.reduce((part, pick) => part.replace(`{${pick.id.slice(5)}}`, pick.value), text);
const show = () => {
  for (const picture of document.querySelectorAll("img[data-file]")) {
    picture.src = `_static/explore/${filled(picture.dataset.file)}.png`;
  }
  const value = document.getElementById("shown-value");
  value.textContent = values[filled(value.dataset.key)];
};
for (const pick of picks) {
  pick.addEventListener("change", show);
}
slider.querySelector("input").addEventListener("input", (event) => {
  slider.style.setProperty("--part", event.target.value + "%");
});
show();
